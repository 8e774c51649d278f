//! The proxies that the environment names, as the HTTP client uses them: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.

use std::net::IpAddr;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

/// The proxy for requests to this URL, such as `http://proxy.example:3128`, without its user name and password. None if
/// they are sent directly, as requests to this machine always are.
pub fn proxy_for(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    if is_this_machine(&parsed) {
        return None;
    }
    let uri: Uri = parsed.as_str().parse().ok()?;
    let proxy = Matcher::from_system().intercept(&uri)?;
    let scheme = proxy.uri().scheme_str().unwrap_or("http");
    let usual_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => 1080,
    };
    let port = proxy.uri().port_u16().unwrap_or(usual_port);
    Some(format!("{scheme}://{}:{port}", proxy.uri().host()?))
}

/// Whether the host is `localhost`, in 127.0.0.0/8, or ::1: what is sent there does not leave this machine.
pub(super) fn is_this_machine(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether what is sent to this URL can be read on the way: it leaves this machine without TLS.
pub fn is_clear_text(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_this_machine(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_and_loopback_keep_a_token_private() {
        for safe in [
            "https://acme.example",
            "http://localhost:8080/scim",
            "http://LOCALHOST",
            "http://127.0.0.1:1",
            "http://127.8.9.10",
            "http://[::1]:8080",
            // Another form of 127.0.0.1.
            "http://2130706433",
            "not a URL",
        ] {
            assert!(!is_clear_text(safe), "{safe}");
        }
        for overheard in [
            "http://acme.example",
            "http://localhost.acme.example",
            "http://127.0.0.1.acme.example",
            "http://provider:8080",
            "http://10.0.0.1",
            "http://0.0.0.0:80",
            "http://[::]:80",
            "HTTP://acme.example",
        ] {
            assert!(is_clear_text(overheard), "{overheard}");
        }
    }
}
