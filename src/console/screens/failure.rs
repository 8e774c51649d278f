//! One failure: its story, what its headers say, and its body with the values hidden.

use std::sync::Arc;

use axum::http::StatusCode;

use super::why::stories;
use super::{Ask, age};
use crate::console::block::{Block, Cell, Mood, Table};
use crate::console::link::{Ports, Trouble};
use crate::console::page::{Shown, refused};
use crate::console::{Console, Seen};
use crate::operations::dead_letters::{Filter, Found, find, is_open_header, shown as hidden};
use crate::operations::why::Period;

impl Console {
    pub async fn found(&self, ask: Ask<'_>, id: &str) -> Result<Seen<Vec<Found>>, Trouble> {
        let filter = Filter {
            ids: vec![id.to_owned()],
            ..Filter::default()
        };
        let look = |ports: Arc<Ports>| async move {
            let (found, _) = find(&*ports.inspector, &filter).await?;
            Ok(found)
        };
        self.look_alone(&self.found.of(id), ask.patience(15), look).await
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>, id: &str) -> Result<Shown, Trouble> {
    let (found, told) = tokio::join!(
        console.found(ask, id),
        console.story(ask, Some(id), None, Period::default())
    );
    let (found, now) = (found?, console.clock.now());
    let mut blocks = Vec::new();
    if found.value.is_empty() {
        blocks.push(Block::Verdict {
            mood: Mood::Unknown,
            text: format!(
                "No dead letter of this command is in the queue. Looked {}.",
                age(&found)
            ),
        });
    }
    for (nth, letter) in found.value.iter().enumerate() {
        if found.value.len() > 1 {
            blocks.push(Block::Heading(format!(
                "Dead letter {} of {}",
                nth + 1,
                found.value.len()
            )));
        }
        blocks.extend(letter_blocks(letter, &of(nth, found.value.len()), now));
    }
    if !found.value.is_empty() {
        blocks.extend(super::actions::on_letter(ask, id));
    }
    match told {
        Ok(told) => blocks.extend(stories(&told.value, now)),
        Err(Trouble::Slow) => blocks.push(Block::note(
            Mood::Busy,
            "Its story is still being read in the outcome log; it follows.",
        )),
        Err(Trouble::Refused(reason)) => {
            blocks.push(Block::note(
                Mood::Unknown,
                format!("Its story can't be read: {reason}"),
            ));
        }
        Err(away) => return Err(away),
    }
    if found.value.is_empty() && blocks.len() == 1 {
        return Ok(refused(
            StatusCode::NOT_FOUND,
            "Nothing is known of this command.",
        ));
    }
    Ok(blocks.into())
}

/// Which of several dead letters.
fn of(nth: usize, count: usize) -> String {
    match count {
        1 => String::new(),
        count => format!(" of dead letter {} of {count}", nth + 1),
    }
}

/// `which`: empty, where there is no other.
fn letter_blocks(found: &Found, which: &str, now: jiff::Timestamp) -> Vec<Block> {
    let letter = &found.letter;
    let text = |text: &Option<String>| vec![Cell::maybe(text.as_deref())];
    let reason = letter.reason.clone().unwrap_or_else(|| "no reason".to_owned());
    let remedy = letter.known_reason().map(crate::contract::Reason::remedy);
    let mut facts = vec![
        ("Reason".to_owned(), vec![Cell::state(Mood::Bad, reason)]),
        ("What to do".to_owned(), vec![Cell::maybe(remedy)]),
        ("Detail".to_owned(), text(&letter.detail)),
        (
            "Code".to_owned(),
            vec![letter.code.clone().map_or(Cell::None, Cell::Code)],
        ),
        (
            "Pointer".to_owned(),
            vec![letter.pointer.clone().map_or(Cell::None, Cell::Code)],
        ),
        ("Status".to_owned(), vec![number(letter.status)]),
        ("User".to_owned(), text(&letter.user)),
        ("Provider".to_owned(), text(&letter.provider)),
        ("Batch".to_owned(), text(&letter.batch)),
        ("Attempts".to_owned(), vec![number(letter.attempts)]),
        (
            "First attempt".to_owned(),
            vec![Cell::time(letter.first_attempt_at, now)],
        ),
        ("Dead".to_owned(), vec![Cell::time(letter.dead_at, now)]),
        ("Redrives".to_owned(), vec![number(Some(letter.redrives))]),
        ("Written by usher".to_owned(), text(&letter.version)),
        (
            "Size".to_owned(),
            vec![Cell::Amount(format!("{} bytes", letter.bytes))],
        ),
    ];
    facts.retain(|(_, cells)| cells[0] != Cell::None);
    let mut headers = headers_of(which);
    for name in found.properties.header_names() {
        let is_open = is_open_header(name);
        let value = match is_open {
            true => Cell::Code(found.properties.header_shown(name).unwrap_or_default()),
            false => Cell::text("… (hidden)"),
        };
        headers.rows.push(vec![Cell::Code(name.to_owned()), value]);
    }
    vec![
        Block::Facts(facts),
        Block::Heading("Body, values hidden".to_owned()),
        Block::Code(format!("{:#}", hidden(&found.body))),
        Block::Table(headers),
    ]
}

fn headers_of(which: &str) -> Table {
    Table::new("headers", format!("Headers{which}"), &["Name", "Value"]).empty("It has no headers.")
}

fn number(number: Option<i64>) -> Cell {
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.map_or(Cell::None, Cell::Number)
}

/// With their values, for somebody whom the audit log knows by now.
pub fn revealed(found: &[Found]) -> Vec<Block> {
    let text = "The values are shown, and the audit log knows that you saw them. They are gone from here when you leave the page.";
    let mut blocks = vec![Block::note(Mood::Waits, text)];
    for (nth, letter) in found.iter().enumerate() {
        let body: Result<serde_json::Value, _> = serde_json::from_slice(&letter.body);
        blocks.push(Block::Heading("Body".to_owned()));
        blocks.push(Block::Code(match body {
            Ok(command) => format!("{command:#}"),
            Err(_) => String::from_utf8_lossy(&letter.body).into_owned(),
        }));
        let mut headers = headers_of(&of(nth, found.len()));
        for name in letter.properties.header_names() {
            let value = letter.properties.header_shown(name).unwrap_or_default();
            headers
                .rows
                .push(vec![Cell::Code(name.to_owned()), Cell::Code(value)]);
        }
        blocks.push(Block::Table(headers));
    }
    blocks
}
