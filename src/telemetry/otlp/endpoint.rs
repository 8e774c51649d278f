//! Where the collector is, and what it is told to be let in.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;

/// The most bytes that are read of the file with the headers.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// A setting that can't be used: its key, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(super) String);

#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    headers: HashMap<String, String>,
}

impl Endpoint {
    pub(super) fn new(address: &str, headers: Option<&Path>) -> Result<Self, Refused> {
        let url = url(address)?;
        let unusable = |error| {
            Refused(format!(
                "telemetry.otlp_headers_file: can't be used ({error}); correct it"
            ))
        };
        let headers = match headers {
            None => HashMap::new(),
            Some(path) => headers_in(path).map_err(unusable)?,
        };
        if !headers.is_empty() && url.scheme() == "http" && !is_this_machine(&url) {
            return Err(Refused(
                "telemetry.otlp_endpoint: is http:// beyond this machine, so anyone on the network path can read the \
                 headers of telemetry.otlp_headers_file; write https://"
                    .to_owned(),
            ));
        }
        Ok(Self { url, headers })
    }

    pub(super) fn shown(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    pub(super) fn traces(&self) -> String {
        format!("{}/v1/traces", self.shown())
    }

    pub(super) fn headers(&self) -> HashMap<String, String> {
        self.headers.clone()
    }

    /// Made in a thread of its own: a blocking client may not be made in one of a runtime.
    pub(super) fn client(&self, timeout: Duration) -> Result<Client, Refused> {
        // An error means that one is already installed.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let here = is_this_machine(&self.url);
        let made = thread::spawn(move || {
            let client = Client::builder()
                .redirect(Policy::none())
                .timeout(timeout)
                .connect_timeout(timeout / 2);
            if here { client.no_proxy() } else { client }.build()
        });
        let made = made.join().ok().and_then(Result::ok);
        made.ok_or_else(|| Refused("telemetry.otlp_endpoint: can't create an HTTP client for it".to_owned()))
    }
}

fn url(address: &str) -> Result<Url, Refused> {
    let refused = |detail: &str| Err(Refused(format!("telemetry.otlp_endpoint: {detail}")));
    let Ok(url) = Url::parse(address) else {
        return refused("must be a URL, such as http://127.0.0.1:4318");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refused("must start with https:// or http:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return refused(
            "must not hold a user name, a password or a query; put headers into a file and name it with \
             telemetry.otlp_headers_file",
        );
    }
    if url.fragment().is_some() {
        return refused("must not have a fragment");
    }
    Ok(url)
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The error never says what stands in a line.
fn headers_in(path: &Path) -> io::Result<HashMap<String, String>> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let mut headers = HashMap::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = header(line).ok_or_else(|| {
            let detail = format!(
                "line {} is not a header, as in `authorization: Bearer ...`",
                n + 1
            );
            io::Error::new(io::ErrorKind::InvalidData, detail)
        })?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::try_from(name.trim()).ok()?;
    let value = HeaderValue::try_from(value.trim()).ok()?;
    Some((name.to_string(), value.to_str().ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, headers: Option<&Path>) -> String {
        Endpoint::new(address, headers).unwrap_err().to_string()
    }

    #[test]
    fn the_path_of_traces_is_added_to_the_address() {
        for address in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            let endpoint = Endpoint::new(address, None).unwrap();
            assert_eq!(endpoint.traces(), "http://127.0.0.1:4318/v1/traces");
        }
        let below = Endpoint::new("https://otlp.example/otlp/", None).unwrap();
        assert_eq!(below.traces(), "https://otlp.example/otlp/v1/traces");
    }

    #[test]
    fn an_address_that_can_not_be_used_is_refused_by_its_key() {
        for (address, why) in [
            ("collector", "must be a URL"),
            ("grpc://collector:4317", "must start with"),
            ("https://user:s3cret@collector", "telemetry.otlp_headers_file"),
            ("https://collector?token=s3cret", "telemetry.otlp_headers_file"),
            ("https://collector#a", "fragment"),
        ] {
            let said = refused(address, None);
            assert!(
                said.starts_with("telemetry.otlp_endpoint: ") && said.contains(why),
                "{said}"
            );
            assert!(!said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn headers_come_from_a_file_and_are_not_told() {
        let path = std::env::temp_dir().join(format!("usher-headers-{}", fastrand::u64(..)));
        let file = Some(path.as_path());
        std::fs::write(
            &path,
            "# of the collector\nAuthorization: Bearer a:b\n\nx-scope-orgid:7\n",
        )
        .unwrap();
        let here = Endpoint::new("http://127.0.0.1:4318", file).unwrap();
        let headers = here.headers();
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert_eq!(headers["x-scope-orgid"], "7");
        let beyond = refused("http://collector:4318", file);
        assert!(beyond.contains("write https://"), "{beyond}");
        assert!(Endpoint::new("https://collector", file).is_ok());
        std::fs::write(&path, "Authorization: a\nBearer s3cret\n").unwrap();
        let broken = refused("https://collector", file);
        std::fs::remove_file(&path).unwrap();
        assert!(
            broken.contains("line 2") && !broken.contains("s3cret"),
            "{broken}"
        );
        let gone = refused("https://collector", file);
        assert!(gone.starts_with("telemetry.otlp_headers_file: "), "{gone}");
    }
}
