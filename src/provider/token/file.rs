//! A file with a secret in it: read at the start, and again when it changes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

/// How often a file is looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A larger file is no secret.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a file holds, as `read` understands it.
pub(in crate::provider) struct Watched<T> {
    path: PathBuf,
    /// What the file is for, as errors name it: `token`.
    what: &'static str,
    read: fn(&str) -> Result<T, &'static str>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    value: T,
    stamp: Stamp,
    looked_at: Instant,
    /// Whether others than its owner may read it: logged when it becomes so.
    open: bool,
    /// Whether the last look failed: a rotation that went wrong is logged once, not every second.
    failing: bool,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl<T: Clone + PartialEq> Watched<T> {
    pub(super) fn new(
        path: PathBuf,
        what: &'static str,
        read: fn(&str) -> Result<T, &'static str>,
    ) -> Result<Self, String> {
        let (value, stamp) = load(&path, what, read)?;
        let open = open_to_others(&path).is_some();
        Ok(Self {
            path,
            what,
            read,
            held: Mutex::new(Held {
                value,
                stamp,
                open,
                looked_at: Instant::now(),
                failing: false,
            }),
        })
    }

    /// What the file holds. It is looked at once a second at most; where that fails, what was read before is
    /// used on.
    pub(super) fn current(&self) -> T {
        let mut held = self.held();
        if held.looked_at.elapsed() >= LOOK_INTERVAL {
            held.looked_at = Instant::now();
            if stamp(&self.path).ok() != Some(held.stamp) {
                self.reload(&mut held);
            }
        }
        held.value.clone()
    }

    /// After what it held was refused: reads the file at once, whatever its stamp says.
    pub(super) fn read_again(&self) -> T {
        let mut held = self.held();
        held.looked_at = Instant::now();
        self.reload(&mut held);
        held.value.clone()
    }

    /// Waits until the file holds something else.
    pub(super) async fn changed(&self) {
        let known = self.current();
        while self.current() == known {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn reload(&self, held: &mut Held<T>) {
        match load(&self.path, self.what, self.read) {
            Ok((value, stamp)) => {
                held.value = value;
                held.stamp = stamp;
                held.failing = false;
                let open = open_to_others(&self.path);
                let was_open = std::mem::replace(&mut held.open, open.is_some());
                if let Some(detail) = open.filter(|_| !was_open) {
                    tracing::warn!("the {}'s file {detail}", self.what);
                }
            }
            Err(detail) => {
                if !held.failing {
                    let what = self.what;
                    tracing::warn!(error = %detail, "the {what}'s file can't be used; what was read before stays in use");
                }
                held.failing = true;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with the rights to a file that holds a secret, where others than its owner have any.
pub fn open_to_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let at = path.display();
    (mode & 0o077 != 0).then(|| {
        format!(
            "{at} is open to others than its owner (mode {mode:04o}); take their rights away: chmod go= {at}"
        )
    })
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
    })
}

/// The stamp is taken before the content: a write between the two is then seen at the next look.
fn load<T>(path: &Path, what: &str, read: fn(&str) -> Result<T, &'static str>) -> Result<(T, Stamp), String> {
    let at = path.display();
    let unreadable = |error: std::io::Error| {
        format!("{at} can't be read ({error}); write the {what} into it and let the worker read it")
    };
    let stamp = stamp(path).map_err(unreadable)?;
    if stamp.bytes > FILE_BYTES_MAX {
        return Err(format!(
            "{at} is larger than {FILE_BYTES_MAX} bytes; put the {what} alone into it"
        ));
    }
    let content = std::fs::read_to_string(path)
        .map(SecretString::from)
        .map_err(unreadable)?;
    let value = read(content.expose_secret()).map_err(|detail| format!("{at}: {detail}"))?;
    Ok((value, stamp))
}

#[cfg(test)]
mod tests {
    use super::super::super::testbed::scratch_file;
    use super::*;

    fn read(text: &str) -> Result<String, &'static str> {
        match text.trim() {
            "" => Err("it is empty"),
            text => Ok(text.into()),
        }
    }

    fn watched(path: &Path) -> Result<Watched<String>, String> {
        Watched::new(path.into(), "token", read)
    }

    #[test]
    fn a_missing_or_wrong_file_is_named_with_the_mend() {
        let path = std::env::temp_dir().join("usher-no-such-token");
        let error = watched(&path).map(|_| ()).unwrap_err();
        assert!(
            error.contains("usher-no-such-token") && error.contains("write the token"),
            "{error}"
        );

        let file = scratch_file(" \n");
        let error = watched(file.path()).map(|_| ()).unwrap_err();
        assert!(error.ends_with(": it is empty"), "{error}");
        file.write(&"hunter2".repeat(10_000));
        let error = watched(file.path()).map(|_| ()).unwrap_err();
        assert!(
            error.contains("the token alone") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_noticed_within_a_second_or_at_once_where_it_is_asked_for() {
        let file = scratch_file("first");
        let watched = watched(file.path()).unwrap();
        file.write("second");
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(watched.current(), "first");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(watched.current(), "second");
        file.write("others");
        assert_eq!(watched.current(), "second");
        assert_eq!(watched.read_again(), "others", "as long as the one before");
    }

    #[test]
    fn only_its_owner_may_have_any_right_to_a_secrets_file() {
        let file = scratch_file("hunter2");
        for (mode, open) in [
            (0o600, false),
            (0o400, false),
            (0o640, true),
            (0o604, true),
            (0o666, true),
        ] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let said = open_to_others(file.path());
            assert_eq!(said.is_some(), open, "{mode:o}");
            assert!(said.is_none_or(|said| said.contains(&format!("(mode {mode:04o})")) && said.contains("chmod")));
        }
        assert_eq!(open_to_others(Path::new("/nowhere/token")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_rotation_keeps_what_was_read_before() {
        let file = scratch_file("first");
        let watched = watched(file.path()).unwrap();
        file.write("");
        assert_eq!(watched.read_again(), "first");
        tokio::time::advance(LOOK_INTERVAL).await;
        assert_eq!(watched.current(), "first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_file_is_told() {
        let file = scratch_file("first");
        let watched = watched(file.path()).unwrap();
        let mut changed = std::pin::pin!(watched.changed());
        let patience = Duration::from_secs(60);
        assert!(tokio::time::timeout(patience, &mut changed).await.is_err());
        file.write("second");
        assert!(
            tokio::time::timeout(Duration::from_secs(2), changed)
                .await
                .is_ok()
        );
    }
}
