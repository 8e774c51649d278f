//! `oauth2` under `[provider.auth]`: where tokens are fetched, as which client, and in which form.

use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::provider::SetupError;

/// `oauth2` under `[provider.auth]`: a token is fetched with the client's id and secret, and again before it expires.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "OAuth2Config",
    extend("oneOf" = [{ "required": ["client_secret_file"] }, { "required": ["client_secret"] }])
)]
pub struct Config {
    /// Where tokens are fetched, such as `https://acme.zitadel.cloud/oauth/v2/token`.
    #[schemars(extend("examples" = ["https://acme.zitadel.cloud/oauth/v2/token"]))]
    pub token_url: String,
    /// The client that the token is for.
    #[schemars(extend("examples" = ["usher"]))]
    pub client_id: String,
    /// A file with the client's secret; read again when it changes.
    #[serde(default)]
    #[schemars(with = "String", extend("examples" = ["/run/secrets/client"]))]
    pub client_secret_file: Option<PathBuf>,
    /// The secret itself: only from the environment, as `USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-sensitive" = true))]
    pub client_secret: Option<SecretString>,
    /// What the token should allow: scopes, separated by spaces. Omitted: not sent.
    #[serde(default)]
    #[schemars(with = "String")]
    pub scope: Option<String>,
    /// The audience of the token, if the provider requires one. Omitted: not sent.
    #[serde(default)]
    #[schemars(with = "String")]
    pub audience: Option<String>,
    /// The form of the request's body. Default: `form`, the standard's form.
    #[serde(default)]
    pub body: Body,
    /// Where the client's id and secret are sent. Default: `basic`.
    #[serde(default)]
    pub client: ClientIn,
}

/// The form of a request for a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OAuth2Body")]
pub enum Body {
    #[default]
    Form,
    Json,
}

/// Where the client's id and secret are in a request for a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OAuth2Client")]
pub enum ClientIn {
    /// In the header, as HTTP Basic.
    #[default]
    Basic,
    /// In the body, as `client_id` and `client_secret`.
    Body,
}

impl Config {
    pub(super) fn checked_url(&self) -> Result<Url, SetupError> {
        let refused = |detail: &'static str| Err(SetupError::new("provider.auth.oauth2.token_url", detail));
        let Ok(url) = Url::parse(&self.token_url) else {
            return refused("must be a URL, such as https://acme.zitadel.cloud/oauth/v2/token");
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return refused("must start with https:// (or http://) and name a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused(
                "must not contain a user name or a password; use client_id and client_secret_file",
            );
        }
        if url.fragment().is_some() {
            return refused("must not have a fragment");
        }
        if self.client_id.is_empty() {
            let detail = "is empty; set it to the client's id at the provider";
            return Err(SetupError::new("provider.auth.oauth2.client_id", detail));
        }
        Ok(url)
    }
}
