//! Where `usher apply` writes: events to one file, dead letters to another. What stands in the first is
//! what a second run need not do again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, json};
use usher::broker::memory::Sink;
use usher::broker::{Header, Message};
use usher::contract::dead_letter;

/// Writes each message as a line. The broker confirms what is written.
pub struct LineSink {
    out: Mutex<Box<dyn Write + Send>>,
    line: fn(&Message) -> io::Result<Vec<u8>>,
}

impl LineSink {
    /// Events, as they are.
    pub fn events(out: Box<dyn Write + Send>) -> Arc<dyn Sink> {
        let line = |message: &Message| Ok(message.body.to_vec());
        Arc::new(Self {
            out: Mutex::new(out),
            line,
        })
    }

    /// Dead letters: headers and the command as it came.
    pub fn dead_letters(out: Box<dyn Write + Send>) -> Arc<dyn Sink> {
        Arc::new(Self {
            out: Mutex::new(out),
            line: dead_letter_line,
        })
    }
}

impl Sink for LineSink {
    fn accept(&self, message: &Message) -> io::Result<()> {
        let mut line = (self.line)(message)?;
        line.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&line)?;
        out.flush()
    }
}

const HEADERS: [&str; 11] = [
    dead_letter::REASON,
    dead_letter::DETAIL,
    dead_letter::STATUS,
    dead_letter::CODE,
    dead_letter::ATTEMPTS,
    dead_letter::FIRST_ATTEMPT_AT,
    dead_letter::DEAD_AT,
    dead_letter::EXCHANGE,
    dead_letter::ROUTING_KEY,
    dead_letter::REDRIVES,
    dead_letter::VERSION,
];

fn dead_letter_line(message: &Message) -> io::Result<Vec<u8>> {
    let mut headers = Map::new();
    for name in HEADERS {
        match message.properties.header(name) {
            Some(Header::Text(text)) => headers.insert(name.to_owned(), text.into()),
            Some(Header::Number(number)) => headers.insert(name.to_owned(), number.into()),
            None => None,
        };
    }
    // A body that is no text is kept all the same, in a form that JSON can hold.
    let (key, body) = match std::str::from_utf8(&message.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => (
            "bodyHex",
            message.body.iter().map(|byte| format!("{byte:02x}")).collect(),
        ),
    };
    let line = json!({ "messageId": message.properties.message_id(), "headers": headers, key: body });
    Ok(serde_json::to_vec(&line)?)
}

/// What an outcome file says of earlier runs: commands that have their terminal event, by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    pub settled: HashMap<String, Settled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Succeeded,
    Failed,
}

/// As much of an event as tells what is done.
#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    data: ToldData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToldData {
    command_id: Option<String>,
}

impl Earlier {
    fn take_in(&mut self, line: &[u8]) -> Result<(), serde_json::Error> {
        let told: Told = serde_json::from_slice(line)?;
        let settled = match told.kind.as_str() {
            "USER_UPDATE_SUCCESS" => Settled::Succeeded,
            "USER_UPDATE_FAIL" => Settled::Failed,
            _ => return Ok(()),
        };
        if let Some(id) = told.data.command_id {
            self.settled.insert(id, settled);
        }
        Ok(())
    }
}

/// Opens an outcome file to go on with it. A line that a crash left unfinished is cut off: its command is
/// done again.
pub fn resume(path: &Path) -> anyhow::Result<(File, Earlier)> {
    let name = path.display();
    let mut file = append_to(path)?;
    let mut earlier = Earlier::default();
    let mut reader = BufReader::new(&mut file);
    let (mut whole, mut number, mut line) = (0, 0_u64, Vec::new());
    loop {
        line.clear();
        number += 1;
        let read = reader
            .read_until(b'\n', &mut line)
            .with_context(|| format!("{name} can't be read"))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        earlier.take_in(&line).with_context(|| {
            format!("{name}: line {number} is no event; name a file that `usher apply` wrote, or a new one")
        })?;
        whole += read as u64;
    }
    drop(reader);
    file.set_len(whole)
        .and_then(|()| file.seek(SeekFrom::Start(whole)))
        .with_context(|| format!("{name} can't be written"))?;
    Ok((file, earlier))
}

/// Opens a file to add to it, and makes it where it is not there.
pub fn append_to(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, id: &str) -> String {
        let event = json!({ "type": kind, "data": { "commandId": id } });
        format!("{event}\n")
    }

    #[test]
    fn an_unfinished_last_line_is_cut_off_and_its_command_done_again() {
        let path = std::env::temp_dir().join(format!("usher-outcomes-{}.jsonl", uuid::Uuid::new_v4()));
        let whole = [
            event("USER_UPDATE_START", "a"),
            event("USER_UPDATE_SUCCESS", "a"),
            event("USER_UPDATE_SUCCESS", "a"),
            event("USER_UPDATE_FAIL", "b"),
            event("USER_UPDATE_START", "c"),
        ]
        .concat();
        std::fs::write(
            &path,
            format!("{whole}{}", &event("USER_UPDATE_SUCCESS", "c")[..20]),
        )
        .unwrap();
        let (_, earlier) = resume(&path).unwrap();
        let settled = [
            ("a".to_owned(), Settled::Succeeded),
            ("b".to_owned(), Settled::Failed),
        ];
        assert_eq!(earlier.settled, HashMap::from(settled));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_not_written_over() {
        let path = std::env::temp_dir().join(format!("usher-outcomes-{}.txt", uuid::Uuid::new_v4()));
        std::fs::write(&path, "dear diary\n").unwrap();
        let error = resume(&path).unwrap_err().to_string();
        assert!(error.contains("line 1 is no event"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\n");
        std::fs::remove_file(&path).unwrap();
    }
}
