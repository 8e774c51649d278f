//! What was read back, as text, as JSON, as a table of differences, and as a section of the page.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};
use usher::operations::batch::Verified;

use super::Ended;
use crate::cli::batch::html::escaped;
use crate::cli::exit::Exit;
use crate::cli::files::csv_cell as cell;
use crate::cli::{counted, print, printable};

/// The most rows that are shown as text.
const SHOWN_MAX: usize = 20;

impl Ended {
    /// Writes a row for each difference.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(b"what,user,id,fields,why\n")?;
        for row in &self.verified.rows {
            let (what, user, id) = (row.what.as_str(), cell(&row.user_id), row.command_id);
            writeln!(
                to,
                "{what},{user},{id},{},{}",
                row.fields.join(" "),
                cell(&row.why)
            )?;
        }
        to.flush()
    }

    /// Prints the result, and says how it ended.
    pub fn report(self, json: bool) -> anyhow::Result<Exit> {
        match json {
            true => print(&format!("{}\n", serde_json::to_string_pretty(&self.json()?)?))?,
            false => print(&self.text())?,
        }
        Ok(match self.end? {
            Exit::Done if !self.verified.is_as_asked() => Exit::Failures,
            exit => exit,
        })
    }

    fn json(&self) -> anyhow::Result<Value> {
        let mut value = serde_json::to_value(&self.verified)?;
        value["file"] = json!(self.of_file);
        Ok(value)
    }

    fn text(&self) -> String {
        let verified = &self.verified;
        let mut text = format!("read back: {}\n", sample(verified));
        for line in [Some(counts(verified)), share(verified)].into_iter().flatten() {
            let _infallible = writeln!(text, "  {line}");
        }
        for (name, of) in &verified.fields {
            let (different, untold) = (of.different, of.untold);
            let _infallible = writeln!(text, "  {name}: {different} different, {untold} can't be told");
        }
        for row in verified.rows.iter().take(SHOWN_MAX) {
            let (what, user, id) = (row.what.as_str(), printable(&row.user_id), row.command_id);
            let _infallible = write!(text, "  {what}: user {user}, command {id}");
            for more in [row.fields.join(", "), printable(&row.why)] {
                if !more.is_empty() {
                    let _infallible = write!(text, ": {more}");
                }
            }
            text.push('\n');
        }
        if let more @ 1.. = verified.rows.len().saturating_sub(SHOWN_MAX) {
            let _infallible = writeln!(text, "  {more} more; --differences FILE has all of them");
        }
        text
    }
}

fn sample(verified: &Verified) -> String {
    let (users, commands) = (
        counted(verified.users, "user"),
        counted(verified.commands, "command"),
    );
    let mut text = format!("a sample of {}: {users} with {commands}", verified.sample);
    if !verified.complete {
        let _infallible = write!(
            text,
            "; it ended early, after {} of them, and the numbers are partial",
            verified.looked_at()
        );
    }
    text
}

fn counts(verified: &Verified) -> String {
    let Verified {
        as_asked,
        different,
        untold,
        gone,
        unread,
        ..
    } = verified;
    format!(
        "{as_asked} as asked, {different} different, {untold} can't be told, {gone} gone, {unread} unread"
    )
}

fn share(verified: &Verified) -> Option<String> {
    let of = verified.share?;
    let [share, least, most] = [of.share, of.least, of.most].map(|share| share * 100.0);
    Some(format!(
        "{share:.2} % differ; of all users of the batch, {least:.2} % to {most:.2} % (95 % confidence)"
    ))
}

/// For the page: numbers and names of fields alone.
pub fn section(verified: &Verified) -> String {
    let mut page = format!(
        "<h2>Read back</h2>\n<p>{}.</p>\n<table>\n<tr><th>users</th><th class=\"n\">number</th></tr>\n",
        escaped(&sample(verified))
    );
    for (what, count) in [
        ("as asked", verified.as_asked),
        ("different", verified.different),
        ("nothing differs, and some fields can't be told", verified.untold),
        ("gone", verified.gone),
        ("unread", verified.unread),
    ] {
        let _infallible = writeln!(page, "<tr><td>{what}</td><td class=\"n\">{count}</td></tr>");
    }
    page.push_str("</table>\n");
    if let Some(share) = share(verified) {
        let _infallible = writeln!(page, "<p>{}.</p>", escaped(&share));
    }
    if !verified.fields.is_empty() {
        page.push_str(
            "<table>\n<tr><th>field</th><th class=\"n\">different</th><th class=\"n\">can't be told</th></tr>\n",
        );
        for (name, of) in &verified.fields {
            let _infallible = writeln!(
                page,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escaped(name),
                of.different,
                of.untold
            );
        }
        page.push_str("</table>\n");
    }
    page
}
