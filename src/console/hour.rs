//! The outcomes of the last hour, by the second: the outcome log is followed once, in the background, for all viewers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::link::{Link, Trouble};
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Message, Streamed};
use crate::clock::Clock;
use crate::contract::ProviderName;
use crate::contract::event::EventType;
use crate::contract::notice::{BARRIER, HANDED_BACK};

/// How much is kept.
const SECONDS: i64 = 3600;

/// The pause before the log is read again, after it could not be.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What was told within a second, or a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub begun: u64,
    pub succeeded: u64,
    pub failed: u64,
}

impl Counts {
    pub fn ended(self) -> u64 {
        self.succeeded + self.failed
    }

    fn add(&mut self, other: Self) {
        self.begun += other.begun;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
    }
}

#[derive(Debug, Default)]
struct Told {
    seconds: VecDeque<(i64, Counts)>,
    read_to_present: bool,
    trouble: Option<Trouble>,
}

/// What is known of the last hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    /// By the minute, the latest last: 60 of them.
    pub minutes: Vec<(Timestamp, Counts)>,
    pub last_minute: Counts,
    pub all: Counts,
    /// Whether the log is read up to the present.
    pub complete: bool,
    pub trouble: Option<Trouble>,
}

pub struct Following {
    told: Mutex<Told>,
    provider: ProviderName,
    clock: Clock,
}

impl Following {
    pub fn new(provider: &ProviderName, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::default(),
            provider: provider.clone(),
            clock,
        })
    }

    /// Follows the log until it is dropped.
    pub async fn follow(self: Arc<Self>, link: Arc<Link>) {
        loop {
            let ended = self.read(&link).await;
            self.change(|told| {
                told.trouble = Some(ended);
                told.read_to_present = false;
            });
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn read(&self, link: &Link) -> Trouble {
        let ports = match link.ports().await {
            Ok(ports) => ports,
            Err(trouble) => return trouble,
        };
        let since = self.clock.now() - SignedDuration::from_secs(SECONDS);
        let error = match ports.inspector.read(OUTCOME_LOG, Some(since)).await {
            Err(error) => error,
            Ok(mut reader) => {
                self.change(|told| *told = Told::default());
                loop {
                    match reader.next().await {
                        Ok(Streamed::Message(message)) => self.take(&message),
                        Ok(Streamed::Present) => self.change(|told| told.read_to_present = true),
                        Err(error) => break error,
                    }
                }
            }
        };
        let trouble = error.into();
        if matches!(trouble, Trouble::Away(_)) {
            link.lost(&ports).await;
        }
        trouble
    }

    fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn take(&self, message: &Message) {
        let of_ours = message
            .routing_key
            .rsplit_once('.')
            .is_some_and(|(_, provider)| provider == self.provider.as_str());
        let kind = message.properties.message_type().and_then(EventType::parse);
        let repeats = [BARRIER, HANDED_BACK]
            .iter()
            .any(|name| message.properties.header(name).is_some());
        let at = message
            .properties
            .timestamp()
            .and_then(|at| i64::try_from(at).ok());
        let (true, Some(kind), Some(at), false) = (of_ours, kind, at, repeats) else {
            return;
        };
        let now = self.clock.now().as_second();
        self.change(|told| told.add(kind, at.min(now), now));
    }

    pub fn hour(&self) -> Hour {
        let now = self.clock.now().as_second();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.div_euclid(60);
        let mut minutes: Vec<_> = (minute - 59..=minute)
            .map(|minute| {
                (
                    Timestamp::from_second(minute * 60).unwrap_or_default(),
                    Counts::default(),
                )
            })
            .collect();
        let (mut last_minute, mut all) = (Counts::default(), Counts::default());
        for (second, counts) in &told.seconds {
            let place = usize::try_from(second.div_euclid(60) - (minute - 59)).ok();
            if let Some((_, minute)) = place.and_then(|place| minutes.get_mut(place)) {
                minute.add(*counts);
                all.add(*counts);
            }
            if *second > now - 60 {
                last_minute.add(*counts);
            }
        }
        Hour {
            minutes,
            last_minute,
            all,
            complete: told.read_to_present,
            trouble: told.trouble.clone(),
        }
    }
}

impl Told {
    fn add(&mut self, kind: EventType, at: i64, now: i64) {
        let oldest = now - SECONDS;
        while self.seconds.front().is_some_and(|(second, _)| *second < oldest) {
            self.seconds.pop_front();
        }
        if at < oldest {
            return;
        }
        let place = self.seconds.partition_point(|(second, _)| *second < at);
        if self.seconds.get(place).is_none_or(|(second, _)| *second != at) {
            self.seconds.insert(place, (at, Counts::default()));
        }
        let Some((_, counts)) = self.seconds.get_mut(place) else {
            return;
        };
        match kind {
            EventType::Start => counts.begun += 1,
            EventType::Success => counts.succeeded += 1,
            EventType::Fail => counts.failed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::{Header, Properties};

    fn event(kind: &str, at: i64, provider: &str) -> Message {
        Message {
            exchange: String::new(),
            routing_key: format!("user.update.x.{provider}"),
            properties: Properties::transient("application/json")
                .with_message_type(kind)
                .with_timestamp(at.unsigned_abs()),
            body: Bytes::new(),
            mandatory: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_counted_by_the_minute_and_takes_bounded_room() {
        let now: Timestamp = "2026-11-21T10:00:30Z".parse().unwrap();
        let provider = ProviderName::parse("sivo").unwrap();
        let following = Following::new(&provider, Clock::anchored(now));
        let second = now.as_second();
        for ago in 0..2 * SECONDS {
            following.take(&event("USER_UPDATE_SUCCESS", second - ago, "sivo"));
        }
        following.take(&event("USER_UPDATE_FAIL", second, "sivo"));
        following.take(&event("USER_UPDATE_FAIL", second, "other"));
        let mut repeat = event("USER_UPDATE_START", second, "sivo");
        repeat.properties = repeat
            .properties
            .with_headers([(HANDED_BACK.to_owned(), Header::Text("untouched".into()))]);
        following.take(&repeat);
        let hour = following.hour();
        assert_eq!(hour.minutes.len(), 60);
        assert_eq!((hour.all.begun, hour.all.failed), (0, 1));
        assert_eq!((hour.last_minute.succeeded, hour.last_minute.failed), (60, 1));
        assert_eq!(hour.minutes[0].1.succeeded, 60);
        assert!(following.told.lock().unwrap().seconds.len() <= 3601);
    }
}
