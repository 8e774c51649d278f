//! A row for each command of a batch that has ended: ids, outcomes and times, and no value of a command.

use std::io::{self, Write};

use usher::contract::event::EventBody;
use usher::operations::batch::Last;

use crate::cli::files::csv_cell as cell;

pub const HEADER: &str = "id,user,outcome,reason,attempts,when,duration_ms,redrives\n";

pub fn row(to: &mut dyn Write, last: &Last) -> io::Result<()> {
    let event = &last.event;
    let (command, outcome, reason, attempts, duration_ms) = match &event.body {
        EventBody::Start(_) => return Ok(()),
        EventBody::Success(done) => {
            let outcome = if done.changed { "succeeded" } else { "unchanged" };
            (&done.command, outcome, "", done.attempts, done.duration_ms)
        }
        EventBody::Fail(failed) => {
            let reason = failed.error.reason.as_str();
            (
                &failed.command,
                "failed",
                reason,
                failed.attempts,
                failed.duration_ms,
            )
        }
    };
    let id = cell(command.command_id.as_deref().unwrap_or_default());
    let user = cell(event.subject.as_deref().unwrap_or_default());
    let (when, redrives) = (event.time, last.redrives);
    writeln!(
        to,
        "{id},{user},{outcome},{reason},{attempts},{when},{duration_ms},{redrives}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_would_end_its_row_or_itself_is_quoted() {
        for (text, expected) in [
            ("u1", "u1"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("a\nb", "\"a\nb\""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
