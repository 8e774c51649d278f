//! A token that the worker fetches: OAuth 2.0 client credentials (RFC 6749, section 4.4).
//!
//! The request is built and its answer interpreted here; `http` sends it, once per fetch.

mod answer;
mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::fetched::Fetched;
use super::file::Watched;
use crate::contract::Fault;
use crate::provider::answer::Answer;
use crate::provider::{ProviderError, SetupError};

pub(super) use answer::lifetime;
pub use config::{Body, ClientIn, Config};

/// The characters that `application/x-www-form-urlencoded` keeps; a space becomes a plus.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

/// Fetches tokens and keeps the current one.
pub(in crate::provider) struct OAuth2 {
    config: Config,
    url: Url,
    secret: SecretSource,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) fetched: Fetched,
    /// The secret with which the token was fetched.
    secret: ClientSecret,
    /// Whether the last fetch failed, so that repeated failures are logged once.
    failing: bool,
}

enum SecretSource {
    Fixed(ClientSecret),
    File(Watched<ClientSecret>),
}

#[derive(Clone)]
struct ClientSecret(SecretString);

impl PartialEq for ClientSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// What is needed to interpret the answer to a request for a token.
pub(in crate::provider) struct TokenRequest {
    at: Instant,
    secret: ClientSecret,
}

impl OAuth2 {
    pub(super) fn new(config: Config) -> Result<Self, SetupError> {
        let url = config.checked_url()?;
        let secret = SecretSource::new(&config)?;
        let state = Mutex::new(State {
            fetched: Fetched::default(),
            secret: secret.current(),
            failing: false,
        });
        Ok(Self {
            config,
            url,
            secret,
            state,
        })
    }

    /// Waits until the client's secret changes.
    pub(super) async fn changed(&self) {
        match &self.secret {
            SecretSource::Fixed(_) => std::future::pending().await,
            SecretSource::File(file) => file.changed().await,
        }
    }

    pub(in crate::provider) fn url(&self) -> &Url {
        &self.url
    }

    /// The client's id and its secret.
    pub(in crate::provider) fn credentials(&self) -> [SecretString; 2] {
        [
            self.config.client_id.as_str().into(),
            self.lock().secret.0.clone(),
        ]
    }

    /// The request for a token, and what its answer must be passed to `answered` with.
    pub(in crate::provider) fn ask(&self, client: &Client) -> (RequestBuilder, TokenRequest) {
        let secret = self.lock().secret.clone();
        let (id, exposed) = (self.config.client_id.as_str(), secret.0.expose_secret());
        let mut members = BTreeMap::from([("grant_type", "client_credentials")]);
        members.extend(self.config.scope.as_deref().map(|scope| ("scope", scope)));
        members.extend(
            self.config
                .audience
                .as_deref()
                .map(|audience| ("audience", audience)),
        );
        let mut request = client.post(self.url.clone());
        match self.config.client {
            ClientIn::Basic => request = request.basic_auth(form_encoded(id), Some(form_encoded(exposed))),
            ClientIn::Body => members.extend([("client_id", id), ("client_secret", exposed)]),
        }
        let request = match self.config.body {
            Body::Form => request.form(&members),
            Body::Json => request.json(&members),
        };
        let at = Instant::now();
        (request, TokenRequest { at, secret })
    }

    /// Keeps the token of an answer. If there is none, the current token is used while it is valid.
    pub(in crate::provider) fn answered(
        &self,
        sent: &TokenRequest,
        answer: Result<Answer, ProviderError>,
    ) -> Result<(), ProviderError> {
        let granted = answer.map_err(answer::no_answer).and_then(|mut answer| {
            answer.sensitive.credentials = vec![self.config.client_id.as_str().into(), sent.secret.0.clone()];
            answer::granted(&answer)
        });
        // The refused secret may have been replaced in the meantime.
        if matches!(&granted, Err(error) if error.fault == Fault::Credentials) {
            self.secret.read_again();
        }
        let mut state = self.lock();
        let replaced = state.secret != sent.secret;
        match granted {
            // A token of the old secret counts as missing, so the next check of the state reports it.
            Ok(_) if replaced => Ok(()),
            Ok(granted) => {
                let serves_s = granted.lifetime.as_secs();
                state.fetched.keep(granted.header, granted.lifetime, sent.at);
                state.failing = false;
                tracing::debug!(token.serves_s = serves_s, "token: fetched");
                Ok(())
            }
            Err(mut error) => {
                if replaced && error.fault == Fault::Credentials {
                    error.fault = Fault::CredentialsRenewed;
                }
                let serves = state.fetched.fetch_failed();
                let passing = matches!(error.fault, Fault::Throttled { .. } | Fault::CredentialsRenewed);
                if !passing && !std::mem::replace(&mut state.failing, true) {
                    let code = error.code.as_deref();
                    tracing::warn!(%error, error.code = code, token.serves = serves, "token: none can be fetched");
                }
                Err(error)
            }
        }
    }

    /// Drops the token if the secret has changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = self.secret.current();
        if state.secret != secret {
            state.fetched.forget();
            state.secret = secret;
        }
        state
    }
}

impl SecretSource {
    fn new(config: &Config) -> Result<Self, SetupError> {
        if let Some(secret) = &config.client_secret {
            return client_secret(secret.expose_secret())
                .map(Self::Fixed)
                .map_err(|detail| SetupError::new("provider.auth.oauth2.client_secret", detail));
        }
        let path = config.client_secret_file.clone().unwrap_or_default();
        Watched::new(path, "client secret", client_secret)
            .map(Self::File)
            .map_err(|detail| SetupError::new("provider.auth.oauth2.client_secret_file", detail))
    }

    fn current(&self) -> ClientSecret {
        match self {
            Self::Fixed(secret) => secret.clone(),
            Self::File(file) => file.current(),
        }
    }

    fn read_again(&self) {
        if let Self::File(file) = self {
            file.read_again();
        }
    }
}

fn client_secret(text: &str) -> Result<ClientSecret, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the client secret is empty; put the secret of client_id there");
    }
    if text.contains(char::is_control) {
        return Err(
            "the client secret contains line breaks or other control characters; put only the secret there",
        );
    }
    Ok(ClientSecret(SecretString::from(text)))
}

/// The id or the secret as it is encoded in an HTTP Basic header (RFC 6749, section 2.3.1).
fn form_encoded(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string().replace("%20", "+")
}
