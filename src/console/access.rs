//! Who asks, and what they may: on this machine everybody may look; whoever acts or sees values has a name and a role.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderName};
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config;
use crate::operations::steering;
use crate::web::origin::{self, Foreign};

/// The most bytes that are read of the people's file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A shorter token could be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// The most sessions; a new one replaces the oldest.
const SESSIONS_MAX: usize = 1000;

/// A session ends after this.
const SESSION_FOR: Duration = Duration::from_secs(12 * 3600);

pub const COOKIE_NAME: &str = "usher_console";

/// The schemes of the console's own pages: its own, and that of a proxy with TLS before it.
const SCHEMES: [&str; 2] = ["http://", "https://"];

/// Whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    pub name: String,
    pub may_act: bool,
    pub may_reveal: bool,
    /// What forms carry, so that no other page can send them.
    pub form_token: String,
    /// Whether there is a session to end.
    pub has_session: bool,
}

/// Why nothing is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Foreign(Foreign),
    /// A token is needed.
    Unknown,
    /// The people's file can't be read.
    Unreadable,
}

/// A line of the people's file.
struct Person {
    name: String,
    may_act: bool,
    may_reveal: bool,
    token: SecretString,
}

struct Session {
    id: String,
    /// The token that it began with: it ends when the file has another one.
    token: SecretString,
    begun: Instant,
}

pub struct Access {
    config: config::Console,
    user_header: Option<HeaderName>,
    /// Known to this process alone.
    secret: Uuid,
    sessions: Mutex<VecDeque<Session>>,
}

impl Access {
    /// What is wrong with the configuration, if something is.
    pub async fn new(config: &config::Console) -> Result<Self, String> {
        let user_header = config.user_header.as_deref().map(|name| {
            HeaderName::try_from(name)
                .map_err(|_| format!("console.user_header: {name} is no name of a header"))
        });
        let access = Self {
            config: config.clone(),
            user_header: user_header.transpose()?,
            secret: Uuid::new_v4(),
            sessions: Mutex::default(),
        };
        access
            .people()
            .await
            .map_err(|error| format!("console.token_file: {error}"))?;
        let is_open = config.token_file.is_none() && access.user_header.is_none();
        if is_open && !config.listen.ip().is_loopback() {
            return Err(format!(
                "console.listen: {} can be reached from other machines, so people have to be told apart: set console.token_file, \
                 or console.user_header behind an authenticating proxy",
                config.listen
            ));
        }
        Ok(access)
    }

    /// Whether people sign in with a token.
    pub fn has_tokens(&self) -> bool {
        self.config.token_file.is_some()
    }

    /// Read each time, so that a change is valid at once.
    async fn people(&self) -> io::Result<Vec<Person>> {
        let Some(path) = &self.config.token_file else {
            return Ok(Vec::new());
        };
        let mut text = String::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).await?;
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        lines.map(|(number, line)| person(line, number + 1)).collect()
    }

    /// Who sends a request, if they may look.
    pub async fn viewer(&self, headers: &HeaderMap) -> Result<Viewer, Denied> {
        origin::host(headers, &self.config.hosts).map_err(Denied::Foreign)?;
        if let Some(header) = &self.user_header {
            let named = origin::only(headers, header).ok().flatten();
            let name = named.and_then(|name| steering::text("the name", name).ok());
            return name.map(|name| self.behind_proxy(name)).ok_or(Denied::Unknown);
        }
        if !self.has_tokens() {
            return Ok(Viewer {
                name: "anyone on this machine".to_owned(),
                may_act: false,
                may_reveal: false,
                form_token: String::new(),
                has_session: false,
            });
        }
        let people = self.people().await.map_err(|error| {
            tracing::warn!(%error, "console: the file of tokens can't be read; nobody is let in");
            Denied::Unreadable
        })?;
        let by = |sent: &str| people.iter().find(|person| origin::is_same(sent, &person.token));
        if let Some(person) = origin::bearer(headers).and_then(by) {
            return Ok(self.known(person, &person.name, false));
        }
        let session = cookie(headers).and_then(|id| self.session(id));
        let (id, token) = session.ok_or(Denied::Unknown)?;
        let person = by(secrecy::ExposeSecret::expose_secret(&token));
        person
            .map(|person| self.known(person, &id, true))
            .ok_or(Denied::Unknown)
    }

    fn known(&self, person: &Person, session: &str, has_session: bool) -> Viewer {
        Viewer {
            name: person.name.clone(),
            may_act: person.may_act,
            may_reveal: person.may_reveal,
            form_token: self.form_token(session),
            has_session,
        }
    }

    fn behind_proxy(&self, name: String) -> Viewer {
        Viewer {
            may_act: self.config.operators.contains(&name),
            may_reveal: self.config.auditors.contains(&name),
            form_token: self.form_token(&name),
            name,
            has_session: false,
        }
    }

    /// Nobody can make it without the secret of this process.
    fn form_token(&self, session: &str) -> String {
        Uuid::new_v5(&self.secret, session.as_bytes())
            .simple()
            .to_string()
    }

    /// Whether a form was sent by a page of this console, for this viewer.
    pub fn is_own_form(&self, headers: &HeaderMap, viewer: &Viewer, sent: &str) -> bool {
        origin::from_here(headers, &self.config.hosts, &SCHEMES).is_ok()
            && !viewer.form_token.is_empty()
            && origin::is_same(sent, &SecretString::from(viewer.form_token.clone()))
    }

    /// Begins a session, if somebody has this token. Returns its id.
    pub async fn sign_in(&self, headers: &HeaderMap, token: &str) -> Result<String, Denied> {
        origin::from_here(headers, &self.config.hosts, &SCHEMES).map_err(Denied::Foreign)?;
        let people = self.people().await.map_err(|_| Denied::Unreadable)?;
        if !people
            .iter()
            .any(|person| origin::is_same(token.trim(), &person.token))
        {
            return Err(Denied::Unknown);
        }
        let id = Uuid::new_v4().simple().to_string();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(Session {
            id: id.clone(),
            token: SecretString::from(token.trim()),
            begun: Instant::now(),
        });
        Ok(id)
    }

    pub fn sign_out(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers) {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|session| session.id != id);
        }
    }

    fn session(&self, id: &str) -> Option<(String, SecretString)> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.begun.elapsed() < SESSION_FOR);
        let is_it = |session: &&Session| origin::is_same(id, &SecretString::from(session.id.clone()));
        let found = sessions.iter().find(is_it)?;
        Some((found.id.clone(), found.token.clone()))
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let sent = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = sent.flat_map(|sent| sent.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

/// Says what is wrong with a line, and not what is in it.
fn person(line: &str, number: usize) -> io::Result<Person> {
    let wrong = |detail: &str| {
        let detail = format!("line {number}: {detail}");
        Err(io::Error::new(io::ErrorKind::InvalidData, detail))
    };
    let words: Vec<_> = line.split_whitespace().collect();
    let &[roles, name, token] = &words[..] else {
        return wrong("write roles, name and token, such as `operator,auditor al TOKEN`");
    };
    let (mut may_act, mut may_reveal) = (false, false);
    for role in roles.split(',') {
        match role {
            "viewer" => {}
            "operator" => may_act = true,
            "auditor" => may_reveal = true,
            _ => return wrong("the roles are viewer, operator and auditor, with commas between"),
        }
    }
    if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("a token has at least 16 characters, all of them visible ASCII");
    }
    let Ok(name) = steering::text("the name", name) else {
        return wrong("the name is too long");
    };
    Ok(Person {
        name,
        may_act,
        may_reveal,
        token: SecretString::from(token),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = [("host", "127.0.0.1:9465")].iter().chain(pairs);
        pairs
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    async fn with_file(lines: &str) -> Result<Access, String> {
        let path = std::env::temp_dir().join(format!("usher-console-{}", Uuid::new_v4()));
        std::fs::write(&path, lines).unwrap();
        let config = config::Console {
            token_file: Some(path),
            ..config::Console::default()
        };
        Access::new(&config).await
    }

    #[tokio::test]
    async fn without_tokens_this_machine_looks_and_others_are_refused_at_the_start() {
        let open = Access::new(&config::Console::default()).await.unwrap();
        let viewer = open.viewer(&headers(&[])).await.unwrap();
        assert!(!viewer.may_act && !viewer.may_reveal);
        assert!(!open.is_own_form(&headers(&[]), &viewer, ""));
        let wide = config::Console {
            listen: ([0, 0, 0, 0], 9465).into(),
            ..config::Console::default()
        };
        assert!(
            Access::new(&wide)
                .await
                .is_err_and(|why| why.contains("token_file"))
        );
    }

    #[tokio::test]
    async fn a_token_has_roles_and_a_session_ends_with_it() {
        let access = with_file(&format!(
            "# people\noperator,auditor al {TOKEN}\nviewer bo {TOKEN}2\n"
        ))
        .await
        .unwrap();
        assert_eq!(access.viewer(&headers(&[])).await, Err(Denied::Unknown));
        let bearer = |token: &str| headers(&[("authorization", &format!("Bearer {token}"))]);
        let al = access.viewer(&bearer(TOKEN)).await.unwrap();
        assert!(al.may_act && al.may_reveal && al.name == "al");
        let bo = access.viewer(&bearer(&format!("{TOKEN}2"))).await.unwrap();
        assert!(!bo.may_act && !bo.may_reveal);
        assert!(access.sign_in(&headers(&[]), "wrong").await.is_err());
        let id = access.sign_in(&headers(&[]), TOKEN).await.unwrap();
        let cookie = headers(&[("cookie", &format!("x=1; {COOKIE_NAME}={id}"))]);
        let viewer = access.viewer(&cookie).await.unwrap();
        assert!(access.is_own_form(&cookie, &viewer, &viewer.form_token));
        assert!(!access.is_own_form(&cookie, &viewer, &al.form_token));
        let mut foreign = cookie.clone();
        foreign.insert("origin", HeaderValue::from_static("http://evil.example"));
        assert!(!access.is_own_form(&foreign, &viewer, &viewer.form_token));
        std::fs::write(access.config.token_file.as_ref().unwrap(), "").unwrap();
        assert_eq!(access.viewer(&cookie).await, Err(Denied::Unknown));
    }

    #[tokio::test]
    async fn a_wrong_line_is_refused_and_not_quoted() {
        for line in [
            format!("root al {TOKEN}"),
            "viewer al s3cret".to_owned(),
            format!("viewer {TOKEN}"),
        ] {
            let why = with_file(&line).await.err().unwrap();
            assert!(
                why.contains("line 1") && !why.contains(TOKEN) && !why.contains("s3cret"),
                "{why}"
            );
        }
    }

    #[tokio::test]
    async fn behind_a_proxy_its_header_names_the_person() {
        let config = config::Console {
            user_header: Some("X-Remote-User".into()),
            operators: vec!["al".into()],
            hosts: vec!["usher.example.com".into()],
            ..config::Console::default()
        };
        let access = Access::new(&config).await.unwrap();
        assert_eq!(access.viewer(&headers(&[])).await, Err(Denied::Unknown));
        let mut al = headers(&[("x-remote-user", "al")]);
        al.insert("host", HeaderValue::from_static("usher.example.com"));
        assert!(access.viewer(&al).await.unwrap().may_act);
        al.insert("host", HeaderValue::from_static("evil.example"));
        assert_eq!(access.viewer(&al).await, Err(Denied::Foreign(Foreign::Host)));
        assert!(
            !access
                .viewer(&headers(&[("x-remote-user", "bo")]))
                .await
                .unwrap()
                .may_act
        );
    }
}
