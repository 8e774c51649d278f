//! One HTTP request to a provider: sent once, within a time-out, and never again by itself.
//!
//! What comes back is an answer of any status, or an error that says whether the request can have arrived.

mod no_answer;

use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use secrecy::SecretString;
use serde::Serialize;

use self::no_answer::{Peer, no_answer};
use super::answer::Answer;
use super::answers::{Class, Rule, Table};
use super::code::{Private, Sent};
use super::proxy;
use super::rate_limit::{RateLimitHints, wait_asked};
use super::rehearsal::{HIDDEN, Rehearsal};
use super::setup::PathTemplate;
use super::token::{Carried, Source, Token};
use super::{Access, Kind, ProviderError, SetupError, TokenState};
use crate::clock::Clock;
use crate::contract::{Fault, RateLimitHint, Reason, UserId};

pub(super) use self::no_answer::lacks_descriptors;

/// What is read of an answer to a write, and of a refusal.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What is read of a user: who is in thousands of groups has more than one MiB of them.
const USER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Some platforms put it before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Below what servers and load balancers commonly allow (60 s): a request on a connection that the other side is
/// about to close is lost, and it can't be told whether it arrived.
const IDLE_MAX: Duration = Duration::from_secs(30);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub struct Settings {
    /// Where the provider is: `https://host`, with a path where its API has one.
    pub base_url: String,
    /// How long a call may take, from its start to the last byte of its answer.
    pub timeout: Duration,
    pub token: Source,
    /// Calls in flight: as many connections are kept open.
    pub concurrency: usize,
    /// What answers mean, before the kind's own table.
    pub answers: Vec<Rule>,
}

/// The way to one provider.
pub struct Http {
    client: Client,
    /// The same, or another where one of the two places is this machine.
    token_client: Client,
    /// Without a slash at its end.
    base: Box<str>,
    token: Token,
    carried: Carried,
    told: RateLimitHints,
    answers: Table,
    clock: Clock,
    /// Where it is, nothing is sent.
    rehearsal: Option<Arc<Rehearsal>>,
}

/// Where below `base_url` a request goes.
pub(super) enum Place<'a> {
    User(&'a PathTemplate, &'a UserId),
    /// A path that starts with a slash.
    Fixed(&'static str),
}

pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) place: Place<'a>,
    /// JSON.
    pub(super) body: Option<Bytes>,
    /// What the body is, and what the answer should be.
    pub(super) media_type: HeaderValue,
    /// Beside those that each request has.
    pub(super) headers: HeaderMap,
}

impl<'a> Request<'a> {
    pub(super) fn read(path: &'a PathTemplate, user_id: &'a UserId) -> Self {
        Self::get(Place::User(path, user_id))
    }

    pub(super) fn get(place: Place<'a>) -> Self {
        Self {
            method: Method::GET,
            place,
            body: None,
            media_type: JSON,
            headers: HeaderMap::new(),
        }
    }

    pub(super) fn write(
        method: Method,
        path: &'a PathTemplate,
        user_id: &'a UserId,
        body: &impl Serialize,
    ) -> Result<Self, ProviderError> {
        // Texts and booleans under texts: there is nothing in a body that JSON could not hold.
        let body = serde_json::to_vec(body).map_err(|_| {
            ProviderError::new(
                Fault::Command(Reason::Invalid),
                "no JSON can be made of the command",
            )
        })?;
        Ok(Self {
            method,
            body: Some(body.into()),
            ..Self::read(path, user_id)
        })
    }
}

impl Http {
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let base = base(&settings.base_url)?;
        let token = Token::new(settings.token)?;
        if settings.timeout.is_zero() {
            return Err(SetupError::new("provider.timeout", "must be longer than nothing"));
        }
        install_tls_provider();
        let here = proxy::is_this_machine(&base);
        let client = |here| client(settings.timeout, settings.concurrency, here);
        let provider_client = client(here)?;
        let token_client = match token.oauth2().map(|oauth2| proxy::is_this_machine(oauth2.url())) {
            Some(issuer_here) if issuer_here != here => client(issuer_here)?,
            _ => provider_client.clone(),
        };
        Ok(Self {
            client: provider_client,
            token_client,
            base: base.as_str().trim_end_matches('/').into(),
            token,
            carried: Carried::default(),
            told: RateLimitHints::default(),
            answers: Table::new(settings.answers)?,
            clock: Clock::System,
            rehearsal: None,
        })
    }

    /// The way to a provider that is only shown: requests are made and noted, and none is sent. No token is looked for.
    pub fn rehearsed(settings: Settings) -> Result<(Self, Arc<Rehearsal>), SetupError> {
        let token = Source::Value(SecretString::from(HIDDEN));
        let rehearsal = Arc::new(Rehearsal::default());
        let http = Self {
            rehearsal: Some(Arc::clone(&rehearsal)),
            ..Self::new(Settings { token, ..settings })?
        };
        Ok((http, rehearsal))
    }

    /// The way to a provider of this kind, with these rules between the configuration's and its own.
    pub(super) fn of(mut self, kind: Kind, rules: Vec<Rule>) -> Result<Self, SetupError> {
        self.answers = self.answers.of(kind, rules)?;
        Ok(self)
    }

    /// The way to a provider that takes the token in another form.
    pub(super) fn carrying(mut self, carried: Carried) -> Self {
        self.carried = carried;
        self
    }

    /// A success; or what `refusal` makes of an answer that is none.
    pub(super) async fn call(
        &self,
        request: Request<'_>,
        refusal: impl Fn(&Answer) -> ProviderError,
    ) -> Result<Answer, ProviderError> {
        let token = self.token.header().ok_or_else(no_token)?;
        let sent = request.body.clone().map_or(Sent::Unknown, Sent::Values);
        let mut answer = self.send(request, &token).await?;
        let meaning = self.answers.meaning(&answer);
        answer.class = meaning.class;
        answer.retry_after = answer.retry_after.or(meaning.retry_after);
        if answer.class == Class::Applied {
            self.token.accepted(&token);
            return Ok(answer);
        }
        answer.private = Private {
            sent,
            credentials: self.token.credentials(&token),
        };
        let mut error = refusal(&answer);
        match error.fault {
            Fault::Credentials if self.token.refused(&token) => error.fault = Fault::CredentialsRenewed,
            // It was looked at the call itself, so the token had passed.
            Fault::Command(_) | Fault::Denied => self.token.accepted(&token),
            _ => {}
        }
        Err(error)
    }

    async fn send(&self, request: Request<'_>, token: &HeaderValue) -> Result<Answer, ProviderError> {
        let url = match request.place {
            Place::User(path, user_id) => path.url(&self.base, user_id),
            Place::Fixed(path) => format!("{}{path}", self.base),
        };
        let url = Url::parse(&url).map_err(|_| {
            ProviderError::new(
                Fault::Unreachable,
                "base_url and the user's path make no URL; correct them",
            )
        })?;
        let credential = self.carried.value(token).ok_or_else(|| {
            let detail =
                "no header can carry the token behind its scheme; correct the scheme in the configuration";
            ProviderError::new(Fault::Configuration, detail)
        })?;
        let reads = request.method == Method::GET;
        let mut outgoing = self
            .client
            .request(request.method.clone(), url.clone())
            .header(self.carried.header(), credential)
            .header(ACCEPT, &request.media_type)
            .headers(request.headers);
        if let Some(body) = request.body {
            outgoing = outgoing.header(CONTENT_TYPE, request.media_type).body(body);
        }
        if let Some(rehearsal) = &self.rehearsal {
            return rehearsal.answer(outgoing);
        }
        let provider = Peer {
            name: "the provider",
            key: "provider.base_url",
            url: &url,
            aftermath: if reads {
                ""
            } else {
                "; it may have applied the command"
            },
        };
        let response = outgoing
            .send()
            .await
            .map_err(|error| no_answer(&error, &provider))?;
        self.answer(request.method, response, if reads { USER_BYTES_MAX } else { 0 })
            .await
    }

    /// A success is of use only with its body, where one of `bytes_needed_max` is needed.
    async fn answer(
        &self,
        method: Method,
        mut response: Response,
        bytes_needed_max: usize,
    ) -> Result<Answer, ProviderError> {
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut answer = Answer::new(method, status, headers, Vec::new());
        self.told.hear(&answer.headers, &self.clock);
        if !answer.is_success() {
            answer.retry_after = wait_asked(&answer.headers, &self.clock);
        }
        let bytes_max = match answer.is_success() {
            true => BODY_BYTES_MAX.max(bytes_needed_max),
            false => BODY_BYTES_MAX,
        };
        match body(response, bytes_max).await {
            Ok(body) => answer.body = body,
            // What was done is done, and what was refused is refused, whatever became of the body.
            Err(_) if !answer.is_success() || bytes_needed_max == 0 => {}
            Err(Unread::TooLong) => {
                let detail = format!(
                    "the provider answered with a success of more than {} MiB; see whether base_url leads to the \
                     provider",
                    bytes_max >> 20
                );
                return Err(answer.error(Fault::Broken, detail));
            }
            Err(Unread::Lost) => {
                return Err(answer.error(Fault::Unknown, "the provider's answer to a read broke off"));
            }
        }
        Ok(answer)
    }
}

#[async_trait]
impl Access for Http {
    fn token(&self) -> TokenState {
        self.token.state()
    }

    async fn fetch_token(&self) -> Result<(), ProviderError> {
        if let Some(program) = self.token.program() {
            return program.fetch().await;
        }
        let Some(oauth2) = self.token.oauth2() else {
            return Ok(());
        };
        let (request, asked) = oauth2.ask(&self.token_client);
        let issuer = Peer {
            name: "the token endpoint",
            key: "provider.auth.oauth2.token_url",
            url: oauth2.url(),
            aftermath: "",
        };
        let answer = match request.send().await {
            Ok(response) => self.answer(Method::POST, response, BODY_BYTES_MAX).await,
            Err(error) => Err(no_answer(&error, &issuer)),
        };
        oauth2.answered(&asked, answer)
    }

    async fn credentials_changed(&self) {
        self.token.changed().await;
    }

    fn rate_limit_hint(&self) -> Option<RateLimitHint> {
        self.told.take()
    }
}

enum Unread {
    TooLong,
    Lost,
}

async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(Unread::TooLong);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Unread::Lost)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(body)
}

/// Nothing was sent. A token can be fetched, and then the call be made.
fn no_token() -> ProviderError {
    ProviderError::new(
        Fault::CredentialsRenewed,
        "there is no token at the moment; the call is made when one was fetched",
    )
}

/// A client for what is on this machine, or elsewhere.
fn client(timeout: Duration, concurrency: usize, here: bool) -> Result<Client, SetupError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, JSON);
    // A connection that can't be had must be told from an answer that doesn't come: the connect time-out
    // lies below the whole one, so that it is the first to end.
    let connect_timeout = (timeout * 4 / 5).min(CONNECT_TIMEOUT_MAX);
    let mut client = Client::builder()
        .user_agent(concat!("usher/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(Policy::none())
        // Each request on the wire is one permit: nobody but the handler sends it again.
        .retry(reqwest::retry::never())
        .timeout(timeout)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(concurrency);
    // A token that is meant for this machine must not travel to a proxy, and that without TLS.
    if here {
        client = client.no_proxy();
    }
    client
        .build()
        .map_err(|error| SetupError::new("provider", format!("no HTTP client can be made: {error}")))
}

fn base(text: &str) -> Result<Url, SetupError> {
    let refused = |detail: &'static str| Err(SetupError::new("provider.base_url", detail));
    let Ok(url) = Url::parse(text) else {
        return refused("must be a URL, such as https://acme.zitadel.cloud");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refused("must start with https:// (or http://) and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("must not carry a user name or a password; put the token under [provider.auth]");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("must not have a query or a fragment");
    }
    Ok(url)
}

/// reqwest is built without a TLS provider of its own and panics where none is installed.
fn install_tls_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error says that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests;
