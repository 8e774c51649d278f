//! How the worker's token is exposed: the path to the provider, and who may read the files with secrets.

use std::path::PathBuf;

use usher::config::Provider;
use usher::operations::findings::Number;
use usher::provider::proxy::{is_clear_text, proxy_for};
use usher::provider::token::open_to_others;

/// One finding, for `usher check` and for the log at the start.
pub struct Finding {
    pub what: &'static str,
    /// `None`: nothing is wrong.
    pub number: Option<Number>,
    pub detail: String,
}

pub fn look(provider: &Provider) -> Vec<Finding> {
    let auth = &provider.auth;
    let token_url = auth.oauth2.as_ref().map(|oauth2| oauth2.token_url.as_str());
    let secret_file = auth
        .oauth2
        .as_ref()
        .and_then(|oauth2| oauth2.client_secret_file.as_ref());
    let mut findings = Vec::new();
    let mut add = |what, number, detail| {
        findings.push(Finding { what, number, detail });
    };
    let urls = [
        ("base_url", Some(provider.base_url.as_str())),
        ("token_url", token_url),
    ];
    for (key, url) in urls.into_iter().filter_map(|(key, url)| Some((key, url?))) {
        if let Some(proxy) = proxy_for(url) {
            let (number, more) = match proxy.starts_with("socks") {
                true => (
                    Some(Number::UnusableProxy),
                    ", which usher can't use: name an HTTP proxy, or add the host to NO_PROXY",
                ),
                false => (None, ""),
            };
            add(
                "proxy",
                number,
                format!("{key} is reached through the environment's proxy {proxy}{more}"),
            );
        }
        if is_clear_text(url) {
            let detail = format!(
                "{key} is http:// beyond this machine: anyone on the network path can read the token"
            );
            add("token", Some(Number::ClearText), detail);
        }
    }
    let files = [
        ("the token's file", auth.token_file.as_deref()),
        ("the client secret's file", secret_file.map(PathBuf::as_path)),
    ];
    for (what, path) in files {
        if let Some(detail) = path.and_then(open_to_others) {
            add("token", Some(Number::OpenSecret), format!("{what} {detail}"));
        }
    }
    findings
}

/// Logs the findings at the start of a worker.
pub fn log(provider: &Provider) {
    for finding in look(provider) {
        match finding.number {
            Some(_) => tracing::warn!("{}: {}", finding.what, finding.detail),
            None => tracing::info!("{}: {}", finding.what, finding.detail),
        }
    }
}
