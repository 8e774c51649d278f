//! The bearer token: where it comes from, and that a changed file is noticed.
//!
//! It becomes a header that is marked sensitive; nothing here prints it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::SetupError;

/// How often a token file is looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A larger file is no token.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where the token comes from.
#[derive(Debug, Clone)]
pub enum Source {
    Value(SecretString),
    /// Read again when it changes.
    File(PathBuf),
}

/// The token in use.
pub(super) struct Token {
    file: Option<PathBuf>,
    held: Mutex<Held>,
}

struct Held {
    header: HeaderValue,
    stamp: Option<Stamp>,
    looked_at: Instant,
    /// Whether the last look failed: a rotation that went wrong is logged once, not every second.
    failing: bool,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Token {
    pub(super) fn new(source: Source) -> Result<Self, SetupError> {
        let (file, header, stamp) = match source {
            Source::Value(value) => {
                let header = header(value.expose_secret())
                    .map_err(|detail| SetupError::new("provider.auth.token", detail))?;
                (None, header, None)
            }
            Source::File(path) => {
                let (header, stamp) =
                    load(&path).map_err(|detail| SetupError::new("provider.auth.token_file", detail))?;
                (Some(path), header, Some(stamp))
            }
        };
        Ok(Self {
            file,
            held: Mutex::new(Held {
                header,
                stamp,
                looked_at: Instant::now(),
                failing: false,
            }),
        })
    }

    /// The header for the next request. A file is looked at once a second at most; where that fails, the token
    /// that is held is used on.
    pub(super) fn header(&self) -> HeaderValue {
        let mut held = self.held();
        if let Some(path) = &self.file
            && held.looked_at.elapsed() >= LOOK_INTERVAL
        {
            held.looked_at = Instant::now();
            if stamp(path).ok() != held.stamp {
                held.reload(path);
            }
        }
        held.header.clone()
    }

    /// After this token was refused: reads the file at once, whatever its stamp says. True where there is
    /// another by now.
    pub(super) fn replaced(&self, refused: &HeaderValue) -> bool {
        let mut held = self.held();
        if let Some(path) = &self.file {
            held.looked_at = Instant::now();
            held.reload(path);
        }
        held.header != refused
    }

    /// Waits until the file holds another token.
    pub(super) async fn changed(&self) {
        if self.file.is_none() {
            std::future::pending::<()>().await;
        }
        let known = self.header();
        while self.header() == known {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn reload(&mut self, path: &Path) {
        match load(path) {
            Ok((header, stamp)) => {
                self.header = header;
                self.stamp = Some(stamp);
                self.failing = false;
            }
            Err(detail) => {
                if !self.failing {
                    tracing::warn!(error = %detail, "the token file can't be used; the token read before stays in use");
                }
                self.failing = true;
            }
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
    })
}

/// The stamp is taken before the content: a write between the two is then seen at the next look.
fn load(path: &Path) -> Result<(HeaderValue, Stamp), String> {
    let unreadable = |error: std::io::Error| {
        format!(
            "{} can't be read ({error}); write the token into it and let the worker read it",
            path.display()
        )
    };
    let stamp = stamp(path).map_err(unreadable)?;
    if stamp.bytes > FILE_BYTES_MAX {
        return Err(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes; put the token alone into it",
            path.display()
        ));
    }
    let content = std::fs::read_to_string(path)
        .map(SecretString::from)
        .map_err(unreadable)?;
    let header = header(content.expose_secret()).map_err(|detail| format!("{}: {detail}", path.display()))?;
    Ok((header, stamp))
}

fn header(token: &str) -> Result<HeaderValue, &'static str> {
    let token = token.trim();
    if token.is_empty() {
        return Err("the token is empty; put a bearer token there");
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            "the token has spaces, line breaks or characters that an HTTP header can't carry; put the token \
             alone there, without `Bearer`",
        );
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token can't be carried by an HTTP header; put a bearer token there")?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::super::testbed::scratch_file;
    use super::*;

    fn value(text: &str) -> Result<Token, SetupError> {
        Token::new(Source::Value(SecretString::from(text)))
    }

    #[test]
    fn white_space_around_a_token_is_trimmed() {
        assert_eq!(value(" abc.def \r\n").unwrap().header(), "Bearer abc.def");
    }

    #[test]
    fn what_no_header_can_carry_is_refused_and_not_quoted() {
        for bad in ["", "  \n", "Bearer hunter2", "hunter2\nhunter2", "hunterü"] {
            let error = value(bad).map(|_| ()).unwrap_err();
            assert_eq!(error.key, "provider.auth.token");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn the_header_prints_nothing_of_the_token() {
        let header = value("hunter2").unwrap().header();
        assert!(!format!("{header:?}").contains("hunter2"));
    }

    #[test]
    fn a_missing_or_wrong_file_is_named_with_the_mend() {
        let path = std::env::temp_dir().join("usher-no-such-token");
        let error = Token::new(Source::File(path))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("usher-no-such-token") && error.contains("write the token"),
            "{error}"
        );

        let file = scratch_file("two\nhunter2");
        let error = Token::new(Source::File(file.path().into()))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("token_file") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn a_refused_token_is_replaced_when_the_file_holds_another() {
        let file = scratch_file("first\n");
        let token = Token::new(Source::File(file.path().into())).unwrap();
        let first = token.header();
        assert!(!token.replaced(&first));
        file.write("other");
        assert_eq!(token.header(), first, "looked at once a second only");
        assert!(token.replaced(&first));
        assert!(
            token.replaced(&first),
            "for each call that went out with the first"
        );
        let other = token.header();
        assert_eq!(other, "Bearer other");
        file.write("");
        assert!(!token.replaced(&other));
        assert_eq!(
            token.header(),
            other,
            "a bad rotation keeps the token that was read"
        );
        let fixed = value("x").unwrap();
        assert!(!fixed.replaced(&fixed.header()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_file_is_told() {
        let file = scratch_file("first");
        let token = Token::new(Source::File(file.path().into())).unwrap();
        let mut changed = std::pin::pin!(token.changed());
        let patience = Duration::from_secs(60);
        assert!(tokio::time::timeout(patience, &mut changed).await.is_err());
        file.write("second");
        assert!(
            tokio::time::timeout(Duration::from_secs(2), changed)
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_noticed_within_a_second() {
        let file = scratch_file("first");
        let token = Token::new(Source::File(file.path().into())).unwrap();
        file.write("second");
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(token.header(), "Bearer first");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(token.header(), "Bearer second");
    }
}
