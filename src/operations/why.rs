//! Why a command, or a user, is not done yet; or what became of it. Put together from the outcome log, the workers' answers
//! and the orders. It holds no value of a command.

mod story;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use self::story::{handed_back, long_pause, not_seen, story};
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{InspectError, Inspector, Message, Properties, PublishError, Publisher, Topology};
use crate::contract::event::{Event, EventBody};
use crate::contract::inquiry::{Answer, CommandNow, Inquiry, Question};
use crate::operations::stream::read_while;

/// Workers answer within some milliseconds. One that has not answered by now is busy or gone.
const ANSWERS_WITHIN: Duration = Duration::from_millis(800);

/// Reading the log ends after this, wherever it has got to.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// How far back the log is read where nothing says when the command was made.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Clocks differ, and the log is read from a chunk's beginning.
const BEFORE: SignedDuration = SignedDuration::from_mins(2);

/// Events are stored later than they are published, and clocks differ.
const AFTER: SignedDuration = SignedDuration::from_mins(1);

/// The most commands that are told of one user: the latest ones.
const COMMANDS_MAX: usize = 1000;

/// The most events that are told of one command.
const EVENTS_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("the workers could not be asked: {0}")]
    Publish(#[from] PublishError),
}

/// Who is asked.
pub struct Asking {
    pub inspector: Arc<dyn Inspector>,
    pub publisher: Arc<dyn Publisher>,
    pub topology: Topology,
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    pub command_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    pub state: Place,
    /// What it waits for, or how it ended.
    pub because: String,
    /// What ends the wait, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    pub timeline: Vec<Moment>,
}

/// Where the command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Succeeded,
    DeadLettered,
    /// A worker has it in hand.
    InHand,
    /// It has a START and no end, and no worker that answers has it in hand.
    Begun,
    /// Neither the log nor a worker knows it.
    NotSeen,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    pub at: Timestamp,
    pub what: String,
}

/// The part of the outcome log that is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Period {
    /// `None`: the time in the command's id, or a day ago.
    pub since: Option<Timestamp>,
    /// `None`: to its end.
    pub until: Option<Timestamp>,
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// From about when on the log was read.
    pub since: Timestamp,
    /// Until about when. `None`: to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether it was read so far.
    pub complete: bool,
    /// How many events were read.
    pub events: u64,
    /// How many workers answered.
    pub workers: usize,
    /// Commands that are ready in the provider's queues: no worker has them yet.
    pub ready: u64,
    pub stories: Vec<Story>,
}

impl Asking {
    /// Asks all workers. Ends early once `enough` is true.
    pub async fn ask(
        &self,
        question: Question,
        enough: impl Fn(&[Answer]) -> bool,
    ) -> Result<Vec<Answer>, WhyError> {
        let until = Instant::now() + ANSWERS_WITHIN;
        let mut inbox = self.inspector.inbox(None).await?;
        let inquiry = Inquiry {
            ask: question,
            reply_to: inbox.name().to_owned(),
        };
        let message = Message {
            exchange: self.topology.fleet_exchange(),
            routing_key: String::new(),
            properties: Properties::transient("application/json"),
            body: Bytes::from(serde_json::to_vec(&inquiry).unwrap_or_default()),
            mandatory: false,
        };
        self.publisher.publish(&message).await?;
        let mut answers = Vec::new();
        while !enough(&answers)
            && let Ok(message) = timeout_at(until, inbox.next()).await
        {
            answers.extend(serde_json::from_slice::<Answer>(&message?.body).ok());
        }
        answers.sort_by(|one, other| one.worker.cmp(&other.worker));
        Ok(answers)
    }

    /// The story of one command.
    pub async fn command(&self, id: &str, period: Period, now: Timestamp) -> Result<Findings, WhyError> {
        let since = period.since.or_else(|| made_at(id)).unwrap_or(now - DAY);
        let found = |answers: &[Answer]| answers.iter().any(|answer| !answer.commands.is_empty());
        let answers = self.ask(Question::Command(id.to_owned()), found).await?;
        let is_its = |message: &Message| message.properties.correlation_id() == Some(id);
        let log = self.read((since, period.until), is_its).await?;
        let mut findings = self.findings((since, period.until), log, &answers).await?;
        if findings.stories.is_empty() {
            findings.stories.push(not_seen(id, &findings));
        }
        Ok(findings)
    }

    /// The stories of a user's commands.
    pub async fn user(&self, user: &str, period: Period, now: Timestamp) -> Result<Findings, WhyError> {
        let since = period.since.unwrap_or(now - DAY);
        let answers = self.ask(Question::User(user.to_owned()), |_| false).await?;
        // Looked for in the bytes first: most events are another user's.
        let name = serde_json::to_string(user).unwrap_or_default();
        let subject = format!("\"subject\":{name}");
        let is_its = |message: &Message| contains(&message.body, subject.as_bytes());
        let log = self.read((since, period.until), is_its).await?;
        self.findings((since, period.until), log, &answers).await
    }

    async fn read(
        &self,
        (since, until): (Timestamp, Option<Timestamp>),
        is_its: impl Fn(&Message) -> bool,
    ) -> Result<Log, WhyError> {
        let until = until.map(|until| (until + AFTER).as_second());
        let mut reader = self.inspector.read(OUTCOME_LOG, Some(since - BEFORE)).await?;
        let provider = format!("/usher/{}", self.topology.provider);
        let mut log = Log::default();
        let take = |message: &Message| {
            // Whole seconds, as the broker keeps them.
            let at = message
                .properties
                .timestamp()
                .and_then(|at| i64::try_from(at).ok());
            if at.zip(until).is_some_and(|(at, until)| at > until) {
                return ControlFlow::Break(());
            }
            log.read += 1;
            if is_its(message)
                && let Ok(event) = serde_json::from_slice::<Event>(&message.body)
                && event.source == provider
            {
                log.take(event);
            }
            ControlFlow::Continue(())
        };
        let complete = read_while(&mut *reader, READ_WITHIN, take).await?;
        Ok(Log { complete, ..log })
    }

    async fn findings(
        &self,
        (since, until): (Timestamp, Option<Timestamp>),
        log: Log,
        answers: &[Answer],
    ) -> Result<Findings, WhyError> {
        let mut ready = 0;
        for (queue, _) in self.topology.command_queues() {
            ready += self.inspector.depth(queue).await?.map_or(0, |depth| depth.ready);
        }
        let mut stories = Vec::new();
        let mut in_hand: Vec<(&Answer, &CommandNow)> = answers
            .iter()
            .flat_map(|answer| answer.commands.iter().map(move |command| (answer, command)))
            .collect();
        for id in &log.order {
            let held = in_hand
                .iter()
                .position(|(_, command)| command.command_id.as_ref() == Some(id))
                .map(|place| in_hand.remove(place));
            stories.push(story(id, &log.events[id], held));
        }
        if let Some(pause) = long_pause(answers) {
            stories.iter_mut().for_each(|story| handed_back(story, pause));
        }
        for (answer, command) in in_hand {
            let id = command.command_id.as_deref().unwrap_or("(without an id)");
            stories.push(story(id, &[], Some((answer, command))));
        }
        Ok(Findings {
            since,
            until,
            complete: log.complete,
            events: log.read,
            workers: answers.len(),
            ready,
            stories,
        })
    }
}

/// The events of the commands in question.
#[derive(Default)]
struct Log {
    read: u64,
    complete: bool,
    events: HashMap<String, Vec<Event>>,
    /// The commands, the latest last.
    order: Vec<String>,
}

impl Log {
    fn take(&mut self, event: Event) {
        let started = match &event.body {
            EventBody::Start(started) => started,
            EventBody::Success(succeeded) => &succeeded.command,
            EventBody::Fail(failed) => &failed.command,
        };
        let id = started.command_id.clone().unwrap_or_default();
        if !self.events.contains_key(&id) {
            if self.order.len() == COMMANDS_MAX {
                self.events.remove(&self.order.remove(0));
            }
            self.order.push(id.clone());
        }
        let events = self.events.entry(id).or_default();
        // A repeat tells nothing new.
        if events.len() < EVENTS_MAX && events.iter().all(|known| known.id != event.id) {
            events.push(event);
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The time in an id of version 7.
fn made_at(id: &str) -> Option<Timestamp> {
    let (seconds, nanos) = Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}
