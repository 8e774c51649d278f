//! Files that a run writes: continued by the next run, private where needed, never the input.

use std::borrow::Cow;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;

use super::exit::{self, Exit};

/// The longest line: a dead letter holds a line of the input (16 MiB) as a JSON string, in which a byte takes at most
/// six.
const LINE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// The mode of a file that only its owner may read.
const PRIVATE: u32 = 0o600;

/// Who may read a new file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Private,
    /// As the umask says.
    Open,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Private => PRIVATE,
            Self::Open => 0o666,
        }
    }

    /// Warns if others may read an existing file. It may be intended, so the mode is not changed.
    fn warn(self, name: &Path, metadata: &Metadata) {
        let mode = metadata.permissions().mode() & 0o777;
        if self == Self::Private && metadata.is_file() && mode & !PRIVATE != 0 {
            super::say(&format!(
                "usher: {}: others may read it (mode {mode:04o}), and it holds values of users: `chmod 600` it",
                name.display()
            ));
        }
    }
}

/// Why a file can't be written, after it was opened.
pub fn not_written(name: &str, error: &io::Error) -> anyhow::Error {
    exit::with(Exit::OutOfReach, format_args!("{name} can't be written: {error}"))
}

/// Opens a file of lines to append to it, and creates it if it is missing. Its lines are read first; `line_is` names
/// what a line has to be. A last line without a line break is left by a crash or a full disk: it is completed if it
/// is whole, and cut off if it is not. A pipe or a device is not read.
pub fn go_on(
    path: &Path,
    access: Access,
    line_is: &str,
    mut read: impl FnMut(&[u8]) -> serde_json::Result<()>,
) -> anyhow::Result<File> {
    let name = path.display();
    let mut options = OpenOptions::new();
    options.append(true);
    if is_special(path) {
        return options
            .open(path)
            .with_context(|| format!("{name} can't be written"));
    }
    let mut file = options
        .read(true)
        .create(true)
        .mode(access.mode())
        .open(path)
        .with_context(|| format!("{name} can't be written"))?;
    access.warn(path, &file.metadata()?);
    let mut reader = BufReader::new(&mut file);
    let (mut whole, mut number, mut line) = (0, 0_u64, Vec::new());
    let unfinished = loop {
        line.clear();
        number += 1;
        let bytes = (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("{name} can't be read"))?;
        let refused = |_| {
            anyhow!(
                "{name}: line {number} is no {line_is}; name a file that `usher apply` wrote, or a new one"
            )
        };
        if line.last() == Some(&b'\n') {
            read(&line).map_err(refused)?;
            whole += bytes as u64;
            continue;
        }
        // A power failure may leave zero bytes.
        line.truncate(line.len() - line.iter().rev().take_while(|byte| **byte == 0).count());
        match read(&line) {
            Ok(()) => break false,
            Err(error) if error.is_eof() => break true,
            Err(error) => return Err(refused(error)),
        }
    };
    drop(reader);
    let ended = match (unfinished, line.is_empty()) {
        (false, _) => file.write_all(b"\n"),
        (true, true) => file.set_len(whole),
        (true, false) => {
            super::say(&format!(
                "usher: {name}: the last line was half-written and is cut off; its command is done again"
            ));
            file.set_len(whole)
        }
    };
    ended
        .and_then(|()| file.seek(SeekFrom::End(0)))
        .map_err(|error| not_written(&name.to_string(), &error))?;
    Ok(file)
}

/// Opens a file to overwrite it, which only its owner may read.
pub fn write_anew(path: &Path) -> anyhow::Result<File> {
    open_private(path, true)
}

/// Opens a file to write, which only its owner may read, and leaves what is in it.
pub fn write_on(path: &Path) -> anyhow::Result<File> {
    open_private(path, false)
}

fn open_private(path: &Path, truncate: bool) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(PRIVATE)
        .open(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    Access::Private.warn(path, &file.metadata()?);
    Ok(file)
}

/// What an earlier run kept there for later ones; `None`: nothing. `otherwise`: what a file that is not ours is, and what to do.
pub fn kept<T: DeserializeOwned>(
    path: &Path,
    is_ours: impl Fn(&T) -> bool,
    otherwise: &str,
) -> anyhow::Result<Option<T>> {
    let name = path.display();
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{name} can't be read")),
    };
    let kept = serde_json::from_slice(&text).ok().filter(is_ours);
    kept.map(Some)
        .ok_or_else(|| exit::usage(format_args!("{name} {otherwise}")))
}

/// Replaces a file that only its owner may read. By renaming, so that a crash leaves the earlier one or this one.
pub fn replace(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let mut new = path.to_owned().into_os_string();
    new.push(".new");
    let mut file = write_anew(new.as_ref())?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(())
}

/// As a cell of CSV (RFC 4180).
pub fn csv_cell(text: &str) -> Cow<'_, str> {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        false => text.into(),
    }
}

/// Whether it is a pipe or a device, which holds no earlier lines.
pub fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file())
}

/// Refuses two names for one file: each would overwrite the other.
pub fn refuse_same(one: (&str, Option<&Path>), other: (&str, Option<&Path>)) -> anyhow::Result<()> {
    let ((one, Some(path)), (other, Some(other_path))) = (one, other) else {
        return Ok(());
    };
    let same = path == other_path
        || path
            .metadata()
            .ok()
            .zip(other_path.metadata().ok())
            .is_some_and(|(a, b)| a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()));
    match same {
        true => Err(exit::usage(format_args!(
            "{one} and {other} are the same file, {}: name two different files",
            path.display()
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;

    fn path() -> PathBuf {
        std::env::temp_dir().join(format!("usher-files-{}.jsonl", uuid::Uuid::new_v4()))
    }

    /// What is in the file afterwards, and how many lines were read; or why it is refused.
    fn gone_on(before: &[u8]) -> Result<(Vec<u8>, usize), String> {
        let path = path();
        std::fs::write(&path, before).unwrap();
        let mut lines = 0;
        let opened = go_on(&path, Access::Open, "object", |line| {
            serde_json::from_slice::<serde_json::Map<String, Value>>(line)?;
            lines += 1;
            Ok(())
        });
        let after = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        match opened {
            Ok(_) => Ok((after, lines)),
            Err(error) => {
                assert_eq!(after, before);
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn a_last_line_without_its_end_is_kept_where_it_is_whole_and_cut_off_where_it_is_not() {
        let whole = b"{\"a\":1}\n".to_vec();
        for unfinished in [
            &b""[..],
            b"{",
            b"{\"a",
            b"{\"b\":\"\xc3",
            b"{\"b\":2",
            b"\0\0\0",
            b"{\"b\":\0\0",
        ] {
            let before = [&whole, unfinished].concat();
            assert_eq!(gone_on(&before), Ok((whole.clone(), 1)), "{unfinished:?}");
        }
        let both = b"{\"a\":1}\n{\"b\":2}\n".to_vec();
        assert_eq!(gone_on(b"{\"a\":1}\n{\"b\":2}"), Ok((both, 2)));
        assert_eq!(gone_on(b""), Ok((Vec::new(), 0)));
    }

    #[test]
    fn a_file_of_something_else_is_not_written_over() {
        for text in ["dear diary\n", "dear diary", "{\"a\":1}\n[]", "{\"a\":1}\n\n"] {
            let refused = gone_on(text.as_bytes()).unwrap_err();
            assert!(refused.contains("is no object"), "{refused}");
        }
    }

    #[test]
    fn a_device_is_not_read() {
        // It has no end.
        let read = |_: &[u8]| -> serde_json::Result<()> { panic!("it was read") };
        assert!(go_on(Path::new("/dev/zero"), Access::Private, "object", read).is_ok());
    }

    #[test]
    fn a_private_file_is_made_for_its_owner_alone() {
        let path = path();
        go_on(&path, Access::Private, "object", |_| Ok(())).unwrap();
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode, 0o600);
        write_anew(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode, 0o600);
    }
}
