//! The account of a batch at one moment: numbers that add up, and what is missing where they can't.

use jiff::Timestamp;
use serde::Serialize;

use super::{Book, Counts, Left, Pace};
use crate::contract::{BatchState, Orders};

/// published = succeeded + unchanged + failed + in flight + waiting (or not seen).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Commands that were announced. `None`: nobody has told how many there are.
    pub published: Option<u64>,
    #[serde(flatten)]
    pub counts: Counts,
    /// Commands without a START, those that are announced and not published yet included. `None`: not known.
    pub waiting: Option<u64>,
    /// Instead of `waiting`, where the log does not reach back to the opening: they wait, or ended before its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_seen: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub batch_id: String,
    pub provider: String,
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    pub closed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// Identifies the set of the ids of the published commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    pub files: usize,
    pub account: Account,
    /// The time of its first and its last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// Commands that have ended, of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Since its first event, until now or until the last one if all have ended.
    pub elapsed_seconds: f64,
    pub pace: Pace,
    /// `None`: it is done, it is paused, or its end can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// The time that has passed, of all that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_share: Option<f64>,
    /// Its commands that have made no call end as failures.
    pub cancelled: bool,
    /// Users whose later commands are held back behind a failed one. `None`: the batch goes on after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_held: Option<usize>,
    /// What it waits for as a whole, and what ends that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What these numbers lack, and why.
    pub missing: Vec<String>,
    /// Closed, and all commands have ended.
    pub done: bool,
}

impl Book {
    pub fn account(&self) -> Account {
        let counts = self.tally.counts.clone();
        let seen = counts.ended() + counts.in_flight;
        // More may be seen than was announced: the events are proof enough.
        let published = self.announced.commands().map(|announced| announced.max(seen));
        let others = published.map(|published| published - seen);
        let reaches_back = self.whole && self.tally.uncounted == 0;
        Account {
            published,
            counts,
            waiting: others.filter(|others| reaches_back || *others == 0),
            not_seen: others.filter(|others| !reaches_back && *others > 0),
        }
    }

    pub fn status(&self, orders: &Orders, now: Timestamp) -> Status {
        let account = self.account();
        let (ended, pinned) = (account.counts.ended(), orders.pace_at(now));
        let remaining = account.published.map(|published| published - ended);
        let done = self.announced.is_closed() && remaining == Some(0) && account.counts.running_again == 0;
        let until = self.tally.last_at.filter(|_| done).unwrap_or(now);
        let elapsed = self.tally.first_at.map(|first| until.duration_since(first));
        let elapsed_seconds = elapsed.map_or(0.0, |elapsed| elapsed.as_secs_f64().max(0.0));
        let pace = Pace::of(&self.tally, pinned, now);
        let held = self.held(orders, now).filter(|_| !done);
        let cancelled = orders.batch(&self.batch).map(|order| order.state) == Some(BatchState::Cancelled);
        let goes_on = held.is_none() && account.not_seen.is_none();
        let left = remaining
            .filter(|remaining| *remaining > 0 && goes_on)
            .and_then(|remaining| pace.left(remaining, pinned, now));
        Status {
            batch_id: self.batch.as_str().to_owned(),
            provider: self.provider.to_string(),
            at: now,
            opened_at: self.announced.opened_at(),
            closed: self.announced.is_closed(),
            closed_at: self.announced.closed_at(),
            ids: self.announced.ids().map(|ids| ids.to_string()),
            files: self.announced.files(),
            missing: self.missing(&account),
            first_at: self.tally.first_at,
            last_at: self.tally.last_at,
            share: account
                .published
                .filter(|published| *published > 0)
                .map(|published| ended as f64 / published as f64),
            account,
            elapsed_seconds,
            pace,
            left,
            time_share: left.map(|left| elapsed_seconds / (elapsed_seconds + left.seconds)),
            cancelled,
            users_held: orders.holds.get(self.batch.as_str()).map(|hold| hold.users.len()),
            held,
            done,
        }
    }

    /// Why no calls go out for it.
    fn held(&self, orders: &Orders, now: Timestamp) -> Option<String> {
        let id = self.batch.as_str();
        if let Some(order) = orders.batch(&self.batch)
            && order.state == BatchState::Paused
        {
            let (by, since) = (&order.by, order.since);
            return Some(format!(
                "{by} paused the batch at {since}; `usher batch resume {id}` lifts that"
            ));
        }
        if let Some(pause) = orders.pause_at(now)
            && (!pause.bulk_only || self.announced.is_bulk())
        {
            let until = pause
                .until
                .map_or(String::new(), |until| format!(" until {until}"));
            let (by, reason) = (&pause.by, &pause.reason);
            return Some(format!(
                "{by} has paused the provider{until}: {reason}; `usher resume` ends that"
            ));
        }
        let pause = self.pause.as_ref()?;
        let (cause, since) = (pause.cause.as_str(), pause.since);
        Some(format!(
            "the provider is paused since {since} ({cause}); `usher waiting` tells more"
        ))
    }

    fn missing(&self, account: &Account) -> Vec<String> {
        let mut missing = Vec::new();
        let from = self.log_from.map_or(self.since, |first| first.max(self.since));
        if !self.announced.is_known() {
            missing.push(format!(
                "how many commands it has: the audit log has no BATCH_OPENED of it for {}, as if it was published without \
                 `--batch`, or long ago; the outcome log was read from {} on",
                self.provider, self.since
            ));
        } else if account.published.is_none() {
            missing
                .push("how many commands it has, until it is closed: its input was not counted first".into());
        }
        if self.announced.is_known() && !self.whole {
            missing.push(format!(
                "what happened before {from}: the outcome log was not read back to when the batch was opened, because it does \
                 not reach there, or because of --since"
            ));
        }
        if !self.elsewhere.is_empty() {
            missing.push(format!(
                "its commands for {}: name that with --provider",
                self.elsewhere.join(", ")
            ));
        }
        if !self.complete {
            missing.push("the latest events: the outcome log fell silent before its end was read".into());
        }
        if self.tally.uncounted > 0 {
            missing.push(format!(
                "{} events of further commands: there are more than can be told apart, and the counts are partial",
                self.tally.uncounted
            ));
        }
        if self.announced.overflowed {
            missing.push("files beyond the first 10000".into());
        }
        missing
    }
}
