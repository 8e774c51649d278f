//! A console that serves, and the people who may look, act and see values.

use axum::http::StatusCode;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_SECURITY_POLICY;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::process::{Folder, Settings};
use crate::support::{eventually, http};

pub const OPERATOR: &str = "operator-token-1234";
pub const AUDITOR: &str = "auditor-token-12345";
pub const VIEWER: &str = "viewer-token-123456";

pub struct Served {
    _child: Child,
    pub url: String,
    _folder: Folder,
}

impl Served {
    pub async fn start(settings: &Settings) -> Self {
        Self::start_for(settings, ["op", "eva", "vi"]).await
    }

    /// With an operator, an auditor and a viewer of these names.
    pub async fn start_for(settings: &Settings, [operator, auditor, viewer]: [&str; 3]) -> Self {
        let folder = Folder::new();
        let people = format!(
            "operator {operator} {OPERATOR}\nauditor {auditor} {AUDITOR}\nviewer {viewer} {VIEWER}\n"
        );
        let file = folder.write("people", &people);
        let settings = settings.clone().with("CONSOLE__TOKEN_FILE", &file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
        command
            .args(["console", "--listen", "127.0.0.1:0"])
            .env_clear()
            .envs(settings.variables())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .next_line()
            .await
            .unwrap()
            .expect("it says where it listens");
        Self {
            _child: child,
            url: url.trim_end_matches('/').to_owned(),
            _folder: folder,
        }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        http().get(format!("{}{path}", self.url)).bearer_auth(VIEWER)
    }

    /// Waits while it says that it is still looking.
    pub async fn page(&self, path: &str) -> (StatusCode, String) {
        eventually(path, async || {
            let response = self.get(path).send().await.ok()?;
            assert!(
                response.headers()[CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap()
                    .contains("default-src 'none'")
            );
            let (status, text) = (response.status(), response.text().await.ok()?);
            (!text.contains("has not answered yet") && !text.contains("it follows")).then_some((status, text))
        })
        .await
    }

    pub async fn ok(&self, path: &str) -> String {
        let (status, text) = self.page(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    /// Sends a form of the page as somebody.
    pub async fn post(
        &self,
        token: &str,
        page: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let shown = http().get(format!("{}{page}", self.url)).bearer_auth(token);
        let shown = shown.send().await.unwrap().text().await.unwrap();
        let form_token = part(&shown, "name=\"form_token\" value=\"", "\"").unwrap_or_default();
        let body: Vec<_> = fields
            .iter()
            .chain([&("form_token", form_token.as_str())])
            .map(|(name, value)| {
                format!(
                    "{name}={}",
                    value.replace('+', "%2B").replace(' ', "+").replace(':', "%3A")
                )
            })
            .collect();
        let sent = http()
            .post(format!("{}{path}", self.url))
            .bearer_auth(token)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        let answer = sent.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

pub fn part(text: &str, before: &str, after: &str) -> Option<String> {
    let rest = text.split_once(before)?.1;
    Some(rest.split_once(after)?.0.to_owned())
}
