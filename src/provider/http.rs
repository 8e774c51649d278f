//! One HTTP request to a provider: sent once, within a time limit, and never repeated here.
//!
//! The result is an answer of any status, or an error that says whether the request may have arrived.

mod no_answer;
mod witness;

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
use super::code::{Sensitive, SentValues};
use super::proxy;
use super::rate_limit::{RateLimitHints, requested_wait};
use super::rehearsal::{HIDDEN, Rehearsal};
use super::setup::{PathTemplate, without_query};
use super::token::{CredentialHeader, Source, Token};
use super::{Access, Kind, ProviderError, SetupError, TokenState};
use crate::clock::Clock;
use crate::contract::{Fault, RateLimitHint, Reason, UserId};
use crate::traces;

pub(super) use self::no_answer::lacks_descriptors;
pub use self::witness::{Sighting, Witness};

/// The most bytes that are read of an answer to a write, and of a refusal.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes that are read of a user: the memberships of a user in thousands of groups take more than one MiB.
const USER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Some platforms put it before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Below the idle time-outs of most servers and load balancers (60 s): a request on a connection that the other side is
/// about to close is lost, and it is unknown whether it arrived.
const IDLE_MAX: Duration = Duration::from_secs(30);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub struct Settings {
    /// The provider's address: `https://host`, with a path if its API has one.
    pub base_url: String,
    /// The time limit of a call, from its start to the last byte of its answer.
    pub timeout: Duration,
    pub token: Source,
    /// The number of calls in flight, and of connections that are kept open.
    pub concurrency: usize,
    /// Rules for answers that come before the kind's own.
    pub answers: Vec<Rule>,
}

/// Sends requests to one provider.
pub struct Http {
    client: Client,
    /// The same client, or another one if exactly one of the two hosts is this machine.
    token_client: Client,
    /// Without a trailing slash.
    base: Box<str>,
    token: Token,
    credential_header: CredentialHeader,
    hints: RateLimitHints,
    answers: Table,
    clock: Clock,
    /// If present, no request is sent.
    rehearsal: Option<Arc<Rehearsal>>,
    /// Notes what the answers tell beside their meaning.
    witness: Option<Arc<Witness>>,
}

/// The path of a request below `base_url`.
pub(super) enum Place<'a> {
    User(&'a PathTemplate, &'a UserId),
    /// A path that starts with a slash.
    Fixed(&'static str),
    /// The same with a query, in the form of a URL.
    Query(&'a str),
}

pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) place: Place<'a>,
    /// JSON.
    pub(super) body: Option<Bytes>,
    /// The type of the body, and the expected type of the answer.
    pub(super) media_type: HeaderValue,
    /// Added to those that every request has.
    pub(super) headers: HeaderMap,
    /// It changes nothing, and its answer is needed.
    pub(super) reads: bool,
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
            reads: true,
        }
    }

    /// A search whose conditions are in its body.
    pub(super) fn search(path: &'static str, conditions: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            body: Some(conditions.to_string().into()),
            ..Self::get(Place::Fixed(path))
        }
    }

    pub(super) fn write(
        method: Method,
        path: &'a PathTemplate,
        user_id: &'a UserId,
        body: &impl Serialize,
    ) -> Result<Self, ProviderError> {
        // Strings and booleans under string keys: nothing in a body is not representable in JSON.
        let body = serde_json::to_vec(body).map_err(|_| {
            ProviderError::new(
                Fault::Command(Reason::Invalid),
                "the command can't be written as JSON",
            )
        })?;
        Ok(Self {
            method,
            body: Some(body.into()),
            reads: false,
            ..Self::read(path, user_id)
        })
    }
}

impl Http {
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        Self::with(settings, None)
    }

    /// Also notes certificates and clocks, which a worker's calls have no use for.
    pub fn witnessed(settings: Settings) -> Result<(Self, Arc<Witness>), SetupError> {
        let witness = Arc::new(Witness::default());
        Ok((Self::with(settings, Some(Arc::clone(&witness)))?, witness))
    }

    fn with(settings: Settings, witness: Option<Arc<Witness>>) -> Result<Self, SetupError> {
        let base = base(&settings.base_url)?;
        let token = Token::new(settings.token)?;
        if settings.timeout.is_zero() {
            return Err(SetupError::new("provider.timeout", "must be longer than 0"));
        }
        install_tls_provider();
        let here = proxy::is_this_machine(&base);
        let with_certificates = witness.is_some();
        let client = |here| client(settings.timeout, settings.concurrency, here, with_certificates);
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
            credential_header: CredentialHeader::default(),
            hints: RateLimitHints::default(),
            answers: Table::new(settings.answers)?,
            clock: Clock::System,
            rehearsal: None,
            witness,
        })
    }

    /// For a provider that is only shown: requests are built and recorded, and none is sent. No token is read.
    pub fn rehearsed(settings: Settings) -> Result<(Self, Arc<Rehearsal>), SetupError> {
        let token = Source::Value(SecretString::from(HIDDEN));
        let rehearsal = Arc::new(Rehearsal::default());
        let http = Self {
            rehearsal: Some(Arc::clone(&rehearsal)),
            ..Self::new(Settings { token, ..settings })?
        };
        Ok((http, rehearsal))
    }

    /// Adds the kind's own rules, after the configuration's and these.
    pub(super) fn of(mut self, kind: Kind, rules: Vec<Rule>) -> Result<Self, SetupError> {
        self.answers = self.answers.of(kind, rules)?;
        Ok(self)
    }

    /// Sends the token in another header or form.
    pub(super) fn with_credential_header(mut self, credential_header: CredentialHeader) -> Self {
        self.credential_header = credential_header;
        self
    }

    /// A success, or what `refusal` makes of any other answer.
    pub(super) async fn call(
        &self,
        request: Request<'_>,
        refusal: impl Fn(&Answer) -> ProviderError,
    ) -> Result<Answer, ProviderError> {
        let token = self.token.header().ok_or_else(no_token)?;
        let sent = request
            .body
            .clone()
            .map_or(SentValues::Unknown, SentValues::Values);
        let mut answer = self.send(request, &token).await?;
        let meaning = self.answers.meaning(&answer);
        answer.class = meaning.class;
        answer.retry_after = answer.retry_after.or(meaning.retry_after);
        if answer.class == Class::Applied {
            self.token.accepted(&token);
            return Ok(answer);
        }
        answer.sensitive = Sensitive {
            sent,
            credentials: self.token.credentials(&token),
        };
        let mut error = refusal(&answer);
        match error.fault {
            Fault::Credentials if self.token.refused(&token) => error.fault = Fault::CredentialsRenewed,
            // The call itself was judged, so the token had been accepted.
            Fault::Command(_) | Fault::Denied => self.token.accepted(&token),
            _ => {}
        }
        Err(error)
    }

    async fn send(&self, request: Request<'_>, token: &HeaderValue) -> Result<Answer, ProviderError> {
        let url = match request.place {
            Place::User(path, user_id) => path.url(&self.base, user_id),
            Place::Fixed(path) | Place::Query(path) => format!("{}{path}", self.base),
        };
        let url = Url::parse(&url).map_err(|_| {
            ProviderError::new(
                Fault::Unreachable,
                "base_url and the user's path are not a valid URL; correct them",
            )
        })?;
        let credential = self.credential_header.value(token).ok_or_else(|| {
            let detail =
                "a header can't contain the scheme and the token; correct the scheme in the configuration";
            ProviderError::new(Fault::Configuration, detail)
        })?;
        let reads = request.reads;
        let context = traces::sends(|| self.traced(&request, &url));
        let mut outgoing = self
            .client
            .request(request.method.clone(), url.clone())
            .header(self.credential_header.header(), credential)
            .header(ACCEPT, &request.media_type)
            .headers(request.headers);
        for (name, value) in context.iter().flat_map(traces::Headers::pairs) {
            outgoing = outgoing.header(name, value);
        }
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
            possible_effect: if reads {
                ""
            } else {
                "; it may have applied the command"
            },
        };
        let sent = outgoing.send().await;
        let response = sent.map_err(|error| self.no_answer(&error, &provider))?;
        self.answer(request.method, response, if reads { USER_BYTES_MAX } else { 0 })
            .await
    }

    /// What a trace tells of the request: the template in place of the URL, which has the user's id.
    fn traced(&self, request: &Request<'_>, url: &Url) -> traces::Request {
        let base = Url::parse(&self.base).ok();
        let below = match request.place {
            Place::User(path, _) => path.shown(),
            Place::Fixed(path) | Place::Query(path) => without_query(path).to_owned(),
        };
        let above = base.as_ref().map_or("", |base| base.path().trim_end_matches('/'));
        traced(&request.method, url, format!("{above}{below}"))
    }

    fn no_answer(&self, error: &reqwest::Error, peer: &Peer<'_>) -> ProviderError {
        if let Some(witness) = &self.witness {
            witness.had_no_answer(error, peer);
        }
        no_answer(error, peer)
    }

    /// `bytes_needed_max` is 0 if a success counts without its body.
    async fn answer(
        &self,
        method: Method,
        mut response: Response,
        bytes_needed_max: usize,
    ) -> Result<Answer, ProviderError> {
        if let Some(witness) = &self.witness {
            witness.saw(&response, &self.clock);
        }
        let status = response.status().as_u16();
        traces::answered(status);
        let headers = std::mem::take(response.headers_mut());
        let mut answer = Answer::new(method, status, headers, Vec::new());
        self.hints.record(&answer.headers, &self.clock);
        if !answer.is_success() {
            answer.retry_after = requested_wait(&answer.headers, &self.clock);
        }
        let bytes_max = match answer.is_success() {
            true => BODY_BYTES_MAX.max(bytes_needed_max),
            false => BODY_BYTES_MAX,
        };
        match body(response, bytes_max).await {
            Ok(body) => answer.body = body,
            // A lost body does not change what a write did or that it was refused.
            Err(_) if !answer.is_success() || bytes_needed_max == 0 => {}
            Err(Unread::TooLong) => {
                let detail = format!(
                    "the provider answered with a success of more than {} MiB; check whether base_url is the \
                     provider's address",
                    bytes_max >> 20
                );
                return Err(answer.error(Fault::Broken, detail));
            }
            Err(Unread::Lost) => {
                return Err(answer.error(Fault::Unknown, "the provider's answer to a read was cut off"));
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
        let (request, sent) = oauth2.ask(&self.token_client);
        let token_url = oauth2.url();
        traces::sends(|| traced(&Method::POST, token_url, token_url.path().to_owned()));
        let issuer = Peer {
            name: "the token endpoint",
            key: "provider.auth.oauth2.token_url",
            url: token_url,
            possible_effect: "",
        };
        let answer = match request.send().await {
            Ok(response) => self.answer(Method::POST, response, BODY_BYTES_MAX).await,
            Err(error) => Err(self.no_answer(&error, &issuer)),
        };
        oauth2.answered(&sent, answer)
    }

    async fn credentials_changed(&self) {
        self.token.changed().await;
    }

    fn rate_limit_hint(&self) -> Option<RateLimitHint> {
        self.hints.take()
    }
}

fn traced(method: &Method, url: &Url, template: String) -> traces::Request {
    traces::Request {
        method: method.to_string(),
        template,
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default(),
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

/// Nothing was sent. The call can be made after a token is fetched.
fn no_token() -> ProviderError {
    ProviderError::new(
        Fault::CredentialsRenewed,
        "there is no token yet; the call is made after one is fetched",
    )
}

/// A client for this machine, or for other hosts.
fn client(
    timeout: Duration,
    concurrency: usize,
    here: bool,
    with_certificates: bool,
) -> Result<Client, SetupError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, JSON);
    // A connection that can't be made must be distinguished from an answer that doesn't come: the connect time-out is
    // below the whole time limit, so that it ends first.
    let connect_timeout = (timeout * 4 / 5).min(CONNECT_TIMEOUT_MAX);
    let mut client = Client::builder()
        .user_agent(concat!("usher/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(Policy::none())
        // Each request on the wire costs one permit: only `worker::attempts` sends it again.
        .retry(reqwest::retry::never())
        .timeout(timeout)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(concurrency)
        .tls_info(with_certificates);
    // A token for this machine must not travel to a proxy, and without TLS at that.
    if here {
        client = client.no_proxy();
    }
    client
        .build()
        .map_err(|error| SetupError::new("provider", format!("can't create an HTTP client: {error}")))
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
        return refused("must not contain a user name or a password; put the token under [provider.auth]");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("must not have a query or a fragment");
    }
    Ok(url)
}

/// reqwest is built without its own TLS provider, and panics if none is installed.
fn install_tls_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error means that one is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests;
