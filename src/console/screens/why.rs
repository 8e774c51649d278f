//! What a command, or a user, waits for, and what ends that.

use std::sync::Arc;

use axum::http::StatusCode;
use jiff::Timestamp;

use super::{Ask, counted};
use crate::console::block::{Block, Cell, Field, Mood, Table};
use crate::console::link::{Ports, Trouble};
use crate::console::page::{Shown, refused};
use crate::console::{Console, Seen};
use crate::operations::why::{Asking, Findings, Period, Place, Story};

/// The most stories of a user that are shown: the latest ones.
const SHOWN_MAX: usize = 50;

impl Console {
    /// The stories of a command or of a user.
    pub async fn story(
        &self,
        ask: Ask<'_>,
        command: Option<&str>,
        user: Option<&str>,
        period: Period,
    ) -> Result<Seen<Findings>, Trouble> {
        let (id, user) = (command.map(str::to_owned), user.unwrap_or_default().to_owned());
        let since = period.since.map(|at| at.to_string()).unwrap_or_default();
        let name = format!("{}\n{user}\n{since}", id.as_deref().unwrap_or_default());
        let (topology, now) = (self.topology(), self.clock.now());
        let look = move |ports: Arc<Ports>| async move {
            let asking = Asking {
                inspector: ports.inspector.clone(),
                publisher: ports.publisher.clone(),
                topology,
            };
            Ok(match id {
                Some(id) => asking.command(&id, period, now).await?,
                None => asking.user(&user, period, now).await?,
            })
        };
        self.look_alone(&self.stories.of(&name), ask.patience(5), look)
            .await
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Shown, Trouble> {
    let query = ask.query;
    let (command, user) = (query.get("command"), query.get("user"));
    let field = |name, label, hint| Field {
        value: query.get(name).unwrap_or_default().to_owned(),
        ..Field::new(name, label, hint)
    };
    let form = Block::Filter {
        path: ask.screen.path(),
        fields: vec![
            field("command", "Command", "id"),
            field("user", "or user", "id"),
            field("since", "Since", "2026-11-21T10:00:00Z"),
        ],
        label: "Ask",
    };
    let now = console.clock.now();
    if command.is_none() && user.is_none() {
        let fleet = console.fleet(ask).await?;
        let text = "Ask for a command, or for all commands of a user: what it waits for, what ends that, or how it ended.";
        let waiting = super::fleet::waiting(&fleet.value, now);
        return Ok(vec![form, Block::Text(text.to_owned()), Block::Table(waiting)].into());
    }
    let since = match query.get("since").map(str::parse).transpose() {
        Ok(since) => since,
        Err(_) => {
            let why = "Since: write a time such as 2026-11-21T10:00:00Z";
            return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, why));
        }
    };
    let period = Period { since, until: None };
    let found = console.story(ask, command, user, period).await?;
    let mut blocks = vec![form];
    blocks.extend(stories(&found.value, now));
    Ok(blocks.into())
}

pub fn stories(found: &Findings, now: Timestamp) -> Vec<Block> {
    let mut blocks = Vec::new();
    if found.stories.is_empty() {
        let text = format!(
            "No worker has a command of this user in hand, and the outcome log has none since {:.0}; {} ready in the queues.",
            found.since,
            counted(found.ready, "command")
        );
        blocks.push(Block::Verdict {
            mood: Mood::Unknown,
            text,
        });
    }
    for story in found.stories.iter().rev().take(SHOWN_MAX) {
        blocks.extend(blocks_of(story, now));
    }
    let beyond = found.stories.len().saturating_sub(SHOWN_MAX);
    if beyond > 0 {
        blocks.push(Block::Text(format!(
            "{beyond} earlier ones are not shown; `usher why` lists them."
        )));
    }
    if !found.complete {
        let text = "The outcome log was not read to its end in time: name a later time.";
        blocks.push(Block::note(Mood::Unknown, text));
    }
    blocks
}

fn blocks_of(story: &Story, now: Timestamp) -> Vec<Block> {
    let (mood, word) = match story.state {
        Place::Succeeded => (Mood::Good, "succeeded"),
        Place::DeadLettered => (Mood::Bad, "dead letter"),
        Place::InHand => (Mood::Busy, "in hand"),
        Place::Begun => (Mood::Waits, "begun"),
        Place::NotSeen => (Mood::Unknown, "not seen"),
    };
    let mut facts = vec![
        ("State".to_owned(), vec![Cell::state(mood, word)]),
        ("Because".to_owned(), vec![Cell::text(&story.because)]),
        (
            "What ends it".to_owned(),
            vec![Cell::maybe(story.ends.as_deref())],
        ),
        ("User".to_owned(), vec![Cell::maybe(story.user_id.as_deref())]),
        ("Batch".to_owned(), vec![Cell::maybe(story.batch_id.as_deref())]),
    ];
    facts.retain(|(_, cells)| cells[0] != Cell::None);
    let caption = format!("Timeline of {}", story.command_id);
    let mut timeline = Table::new("timeline", caption, &["When", "Time", "What"])
        .empty("The outcome log and the workers tell nothing of it.");
    for moment in &story.timeline {
        timeline.rows.push(vec![
            Cell::time(Some(moment.at), now),
            Cell::Code(moment.at.to_string()),
            Cell::text(&moment.what),
        ]);
    }
    vec![
        Block::Heading(format!("Command {}", story.command_id)),
        Block::Facts(facts),
        Block::Table(timeline),
    ]
}
