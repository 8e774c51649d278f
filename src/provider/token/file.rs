//! A file that contains a secret: read at the start, and again when it changes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

/// The minimum time between two checks of a file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Larger files are not secrets.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The content of a file, as parsed by `read`.
pub(in crate::provider) struct Watched<T> {
    path: PathBuf,
    /// The purpose of the file, for errors: `token`.
    what: &'static str,
    read: fn(&str) -> Result<T, &'static str>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: T,
    stamp: Stamp,
    checked_at: Instant,
    /// Whether others than its owner may read it. A warning is logged when this becomes true.
    open: bool,
    /// Whether the last check failed, so that a failed rotation is logged once, not every second.
    failing: bool,
}

/// Distinguishes versions of a file without reading it.
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
            state: Mutex::new(State {
                value,
                stamp,
                open,
                checked_at: Instant::now(),
                failing: false,
            }),
        })
    }

    /// The content of the file. The file is checked at most once a second; if that fails, the old content stays in use.
    pub(super) fn current(&self) -> T {
        let mut state = self.lock();
        if state.checked_at.elapsed() >= CHECK_INTERVAL {
            state.checked_at = Instant::now();
            if stamp(&self.path).ok() != Some(state.stamp) {
                self.reload(&mut state);
            }
        }
        state.value.clone()
    }

    /// Reads the file at once, whatever its stamp is. For content that was refused.
    pub(super) fn read_again(&self) -> T {
        let mut state = self.lock();
        state.checked_at = Instant::now();
        self.reload(&mut state);
        state.value.clone()
    }

    /// Waits until the content changes.
    pub(super) async fn changed(&self) {
        let known = self.current();
        while self.current() == known {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    fn reload(&self, state: &mut State<T>) {
        match load(&self.path, self.what, self.read) {
            Ok((value, stamp)) => {
                state.value = value;
                state.stamp = stamp;
                state.failing = false;
                let open = open_to_others(&self.path);
                let was_open = std::mem::replace(&mut state.open, open.is_some());
                if let Some(detail) = open.filter(|_| !was_open) {
                    tracing::warn!("the {}'s file {detail}", self.what);
                }
            }
            Err(detail) => {
                if !state.failing {
                    let what = self.what;
                    tracing::warn!(error = %detail, "the {what}'s file can't be used; its old content stays in use");
                }
                state.failing = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The problem with the permissions of a file with a secret, if others than its owner have any.
pub fn open_to_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let at = path.display();
    (mode & 0o077 != 0).then(|| {
        format!(
            "{at} is accessible to others than its owner (mode {mode:04o}); remove their permissions: chmod go= {at}"
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

/// The stamp is taken before the content, so that a write between the two is noticed at the next check.
fn load<T>(path: &Path, what: &str, read: fn(&str) -> Result<T, &'static str>) -> Result<(T, Stamp), String> {
    let at = path.display();
    let unreadable = |error: std::io::Error| {
        format!(
            "{at} can't be read ({error}); write the {what} into it and give the worker permission to read it"
        )
    };
    let stamp = stamp(path).map_err(unreadable)?;
    if stamp.bytes > FILE_BYTES_MAX {
        return Err(format!(
            "{at} is larger than {FILE_BYTES_MAX} bytes; put only the {what} into it"
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
    fn missing_or_invalid_file_is_named_with_a_remedy() {
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
            error.contains("only the token") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn change_is_noticed_within_a_second_or_at_once_on_request() {
        let file = scratch_file("first");
        let watched = watched(file.path()).unwrap();
        file.write("second");
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(watched.current(), "first");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(watched.current(), "second");
        file.write("others");
        assert_eq!(watched.current(), "second");
        assert_eq!(watched.read_again(), "others", "of the same length");
    }

    #[test]
    fn permissions_of_others_on_a_secrets_file_are_reported() {
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
    async fn failed_rotation_keeps_the_old_content() {
        let file = scratch_file("first");
        let watched = watched(file.path()).unwrap();
        file.write("");
        assert_eq!(watched.read_again(), "first");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(watched.current(), "first");
    }

    #[tokio::test(start_paused = true)]
    async fn change_of_the_file_wakes_the_waiter() {
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
