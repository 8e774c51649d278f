//! No connection to the provider: `usher check`, the log and `/readyz` say which of the ways it is, and where.

use std::net::TcpListener as BlockingListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use usher::provider::Kind;

use crate::node::{Node, free_ports};
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::support::{eventually, readiness};

const NAME: &str = "127.0.0.1";

/// Who issues certificates in these tests.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The port of a server with a certificate for this name, valid until this year. It says nothing after the
    /// handshake.
    async fn server(&self, name: &str, until: i32) -> u16 {
        let acceptor = self.acceptor(name, (until, 1, 1));
        let listener = TcpListener::bind((NAME, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read(&mut [0; 4096]).await;
                }
            }
        });
        port
    }

    /// The port of TLS in front of a server of this machine that has none. Year, month and day: the certificate's end.
    pub async fn in_front_of(&self, server: String, until: (i32, u8, u8)) -> u16 {
        let acceptor = self.acceptor(NAME, until);
        let listener = TcpListener::bind((NAME, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(stream).await?;
                    let mut inside = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        port
    }

    fn acceptor(&self, name: &str, (year, month, day): (i32, u8, u8)) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, month, day);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers each connection with these bytes.
pub async fn saying(bytes: &'static [u8]) -> u16 {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind((NAME, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    port
}

fn settings(base_url: &str) -> Settings {
    Settings::default()
        .with("BROKER__URL", &"amqp://127.0.0.1:1")
        .with("PROVIDER__NAME", &"zitadel")
        .with("PROVIDER__KIND", &"zitadel")
        .with("PROVIDER__BASE_URL", &base_url)
        .with("PROVIDER__TIMEOUT", &"20s")
        .with("PROVIDER__AUTH__TOKEN", &"t0ken")
}

/// The same, with the token from there.
fn fetching(token_url: &str) -> Settings {
    settings(token_url)
        .without("PROVIDER__AUTH__TOKEN")
        .with("PROVIDER__AUTH__OAUTH2__TOKEN_URL", &token_url)
        .with("PROVIDER__AUTH__OAUTH2__CLIENT_ID", &"usher")
        .with("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET", &"s3cret")
}

/// The details of all findings about one thing.
async fn check(settings: &Settings, what: &str) -> String {
    let output = settings.run(&["check", "--json"], b"").await;
    let findings: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no findings: {output:?}"));
    let about = findings.iter().filter(|finding| finding["what"] == what);
    about.map(|finding| format!("{finding} ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_failure_is_distinguished_with_host_and_port() {
    let folder = Folder::new();
    let (trusted, other, namesake) = (Authority::new("A"), Authority::new("B"), Authority::new("A"));
    let trusted_file = folder.write("trusted.pem", &trusted.pem);
    let with_tls = async |server: u16| format!("https://{NAME}:{server}");
    let [dead] = free_ports();
    let silent = BlockingListener::bind((NAME, 0)).unwrap();
    let silent_at = silent.local_addr().unwrap();
    let good = trusted.server(NAME, 2999).await;
    let plain = saying(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let ssh = saying(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    let cases = [
        (with_tls(dead).await, "the connection is refused"),
        (format!("http://{NAME}:{dead}"), "the connection is refused"),
        ("https://acme.invalid:8443".into(), "the host name of"),
        (
            with_tls(trusted.server(NAME, 2021).await).await,
            "certificate has expired 2021-01-01T00:00:00Z",
        ),
        (
            with_tls(trusted.server("other.example", 2999).await).await,
            "certificate is for another name",
        ),
        (
            with_tls(other.server(NAME, 2999).await).await,
            "an issuer that this machine does not trust",
        ),
        (
            with_tls(namesake.server(NAME, 2999).await).await,
            "an issuer that this machine does not trust",
        ),
        (with_tls(plain).await, "plain text instead of TLS"),
        (format!("https://{silent_at}"), "connecting timed out"),
        (
            format!("http://{NAME}:{ssh}"),
            "does not speak HTTP; if it uses TLS, write https://",
        ),
        (
            format!("http://{NAME}:{good}"),
            "does not speak HTTP; if it uses TLS, write https://",
        ),
        // Its certificate is good, so the request went out, and the connection was closed.
        (with_tls(good).await, "the connection to"),
    ];
    for (url, words) in cases {
        let place = url.split_once("//").unwrap().1.to_owned();
        let of_provider = settings(&url).with_variable("SSL_CERT_FILE", &trusted_file);
        let of_issuer = fetching(&url).with_variable("SSL_CERT_FILE", &trusted_file);
        let said = [
            (check(&of_provider, "provider").await, "the provider"),
            (check(&of_issuer, "token").await, "the token endpoint"),
        ];
        for (said, whose) in said {
            assert!(said.contains(words), "{words} in {said}");
            assert!(said.contains(whose), "{whose} in {said}");
            let named = words == "the connection to" || said.contains(&place);
            assert!(named, "{place} in {said}");
            assert!(said.contains("\"wrong\""), "{said}");
            let number = if words.contains("expired") { "U032" } else { "U027" };
            assert!(said.contains(number), "{number} in {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_named_without_its_password_and_never_asked_for_this_machine() {
    let [dead] = free_ports();
    let proxy = format!("http://user:s3cret@{NAME}:{dead}");
    let proxied = settings("https://acme.example").with_variable("HTTPS_PROXY", &proxy);
    let named = check(&proxied, "proxy").await;
    assert!(
        named.contains(&format!(
            "base_url is reached through the environment's proxy http://{NAME}:{dead}"
        )),
        "{named}"
    );
    assert!(named.contains("\"ok\""), "{named}");
    let provider = check(&proxied, "provider").await;
    let at = format!(
        "at acme.example:443 through the environment's proxy http://{NAME}:{dead}: the connection is refused"
    );
    assert!(provider.contains(&at), "{provider}");
    let applied = proxied.run(&["apply", "-"], b"").await;
    let log = String::from_utf8(applied.stderr).unwrap();
    assert!(
        log.contains(&format!("environment's proxy http://{NAME}:{dead}")),
        "{log}"
    );
    for said in [named, provider, log] {
        assert!(!said.contains("s3cret") && !said.contains("user:"), "{said}");
    }

    let excepted = proxied.clone().with_variable("NO_PROXY", "acme.example");
    assert_eq!(check(&excepted, "proxy").await, "");
    let socks = settings("https://acme.example").with_variable("ALL_PROXY", "socks5://127.0.0.1:1080");
    let found = check(&socks, "proxy").await;
    assert!(
        found.contains("usher can't use") && found.contains("\"warning\"") && found.contains("U004"),
        "{found}"
    );

    let provider = saying(b"HTTP/1.1 404 Not Found\r\ncontent-length: 10\r\n\r\n{\"code\":5}").await;
    let here = settings(&format!("http://{NAME}:{provider}"))
        .with_variable("HTTP_PROXY", &proxy)
        .with_variable("ALL_PROXY", &proxy);
    assert_eq!(check(&here, "proxy").await, "");
    let found = check(&here, "provider").await;
    assert!(found.contains("answers"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_without_tls_only_where_the_configuration_says_so() {
    let refused = settings("http://provider.invalid:8080")
        .run(&["check"], b"")
        .await;
    let said = String::from_utf8(refused.stdout).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("USHER_PROVIDER__BASE_URL") && said.contains("provider.insecure = true"),
        "{said}"
    );
    let refused = fetching("https://provider.invalid")
        .with(
            "PROVIDER__AUTH__OAUTH2__TOKEN_URL",
            &"http://issuer.invalid/token",
        )
        .run(&["check"], b"")
        .await;
    let said = String::from_utf8(refused.stdout).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("TOKEN_URL") && said.contains("provider.insecure = true"),
        "{said}"
    );

    let allowed = settings("http://provider.invalid:8080").with("PROVIDER__INSECURE", &true);
    let found = check(&allowed, "token").await;
    assert!(
        found.contains("U003") && found.contains("base_url is http:// beyond this machine"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secrets_file_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let file = folder.write("token", "t0ken");
    let [dead] = free_ports();
    let url = format!("http://{NAME}:{dead}");
    let with_token = settings(&url)
        .without("PROVIDER__AUTH__TOKEN")
        .with("PROVIDER__AUTH__TOKEN_FILE", &file);
    let with_secret = fetching(&url)
        .without("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET")
        .with("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET_FILE", &file);
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        for settings in [&with_token, &with_secret] {
            let found = check(settings, "token").await;
            assert_eq!(found.contains("U005"), warned, "{found}");
            let applied = settings.run(&["apply", "-"], b"").await;
            let log = String::from_utf8(applied.stderr).unwrap();
            for said in [&found, &log] {
                assert_eq!(
                    said.contains("is accessible to others than its owner (mode 0644)"),
                    warned,
                    "{said}"
                );
                assert!(!said.contains("t0ken"), "{said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_in_its_log_and_its_readiness_why_there_is_no_connection() {
    let url = Node::shared().await.vhost("connection").await;
    let scene = Scene::new(Kind::Zitadel, url, 1, 1).await;
    let [dead] = free_ports();
    let admin = BlockingListener::bind((NAME, 0)).unwrap().local_addr().unwrap();
    let settings = scene
        .settings()
        .with("PROVIDER__BASE_URL", &format!("http://{NAME}:{dead}"))
        .with("ADMIN__LISTEN", &admin);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    scene.publish_lines(&scene.lines()).await;
    let worker = settings.start(&["run"]);
    let why = format!("the provider can't be reached at {NAME}:{dead}: the connection is refused");
    eventually("the reason in /readyz", async || {
        let (ready, body) = readiness(admin).await?;
        (!ready && body["detail"].as_str()?.starts_with(&why)).then_some(())
    })
    .await;
    let log = worker.drained().await;
    assert!(log.contains(&why), "{log}");
}
