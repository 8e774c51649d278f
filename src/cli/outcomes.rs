//! The outcomes file of `usher apply`: a second run skips the commands that it has outcomes of.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use super::files::{self, Access};

/// The commands that earlier runs settled, by id: those with a terminal event in the outcomes file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    pub settled: HashMap<String, Settled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Succeeded,
    Failed,
}

/// The members of an event that show which command is settled.
#[derive(Deserialize)]
struct EventLine {
    #[serde(rename = "type")]
    kind: String,
    data: EventData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventData {
    command_id: Option<String>,
}

impl Earlier {
    fn take_in(&mut self, line: &[u8]) -> serde_json::Result<()> {
        let event: EventLine = serde_json::from_slice(line)?;
        let settled = match event.kind.as_str() {
            "USER_UPDATE_SUCCESS" => Settled::Succeeded,
            "USER_UPDATE_FAIL" => Settled::Failed,
            _ => return Ok(()),
        };
        if let Some(id) = event.data.command_id {
            self.settled.insert(id, settled);
        }
        Ok(())
    }
}

/// Opens an outcomes file to append to it. It holds ids and names of fields, no values.
pub fn resume(path: &Path) -> anyhow::Result<(File, Earlier)> {
    let mut earlier = Earlier::default();
    let file = files::go_on(path, Access::Open, "event", |line| earlier.take_in(line))?;
    Ok((file, earlier))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}
