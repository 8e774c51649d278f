//! Completes the dead letters that the broker made: they say no reason, and nobody was told of their commands.
//!
//! The worker that holds the first partition's lease does it, for all partitions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::failpoint;
use super::fleet::Fleet;
use super::handler::Held;
use super::hands::{Hands, acked};
use super::shutdown::unless_left;
use super::turn::ident;
use crate::broker::{DeadLetterQueue, Death, Delivery, PickError, Wanted};
use crate::contract::outcome::Settlement;
use crate::contract::{Failure, Outcome, Reason, decode};
use crate::metrics;
use crate::provider::Codes;

/// What is heard of may not have come to the queue yet; and others come with it.
const LET_COME: Duration = Duration::from_secs(1);

/// A look is repeated after this, once: what somebody else had in hand, or a broker that was busy, comes late.
/// And so is one that failed, until it succeeds.
const AGAIN: Duration = Duration::from_secs(60);

/// After a look the letters are let alone for so many times as long as it took, but no longer than `AGAIN`:
/// nobody else sees them while they are looked at.
const GAP_FACTOR: u32 = 9;

/// How long a stopping worker waits for the letter in hand.
const IN_HAND_MAX: Duration = Duration::from_secs(2);

/// The task, and how it hears of the lease.
pub(super) struct Keeper {
    leases: watch::Sender<CancellationToken>,
    task: AbortOnDropHandle<()>,
}

impl Keeper {
    pub(super) fn start(hands: Arc<Hands>, fleet: Arc<Fleet>, queue: Arc<dyn DeadLetterQueue>) -> Self {
        let (leases, leased) = watch::channel(CancellationToken::new());
        let letters = Letters { hands, fleet, queue };
        Self {
            leases,
            task: AbortOnDropHandle::new(tokio::spawn(letters.keep(leased))),
        }
    }

    /// The first partition's lease came, and is held until `leave` is cancelled.
    pub(super) fn leased(&self, leave: &CancellationToken) {
        self.leases.send_replace(leave.clone());
    }

    /// The letter in hand is completed, and the others go back.
    pub(super) async fn end(self) {
        self.leases.borrow().cancel();
        drop(self.leases);
        let _ = timeout(IN_HAND_MAX, self.task).await;
    }
}

struct Letters {
    hands: Arc<Hands>,
    fleet: Arc<Fleet>,
    queue: Arc<dyn DeadLetterQueue>,
}

impl Letters {
    async fn keep(self, mut leased: watch::Receiver<CancellationToken>) {
        while leased.changed().await.is_ok() {
            let leave = leased.borrow_and_update().clone();
            // Left by itself only.
            let _ = self.keep_until(&leave).await;
        }
    }

    /// Looks now, and whenever something is heard of. `None`: left.
    async fn keep_until(&self, leave: &CancellationToken) -> Option<()> {
        let (mut repeat, mut said) = (true, false);
        loop {
            let began = Instant::now();
            match self.look(leave).await {
                Ok(true) => continue,
                Ok(false) => said = false,
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(reason = %error, "letters: trying again until it can be done");
                    }
                    unless_left(leave, sleep(AGAIN)).await?;
                    continue;
                }
            }
            let gap = (began.elapsed() * GAP_FACTOR).clamp(LET_COME, AGAIN);
            repeat = tokio::select! {
                biased;
                () = leave.cancelled() => return None,
                () = self.fleet.unexplained() => true,
                () = sleep(AGAIN), if repeat => false,
            };
            if repeat {
                unless_left(leave, sleep(gap)).await?;
            }
        }
    }

    /// One look at the dead letters. True where it is worth another one at once.
    async fn look(&self, leave: &CancellationToken) -> Result<bool, PickError> {
        let name = self.hands.name.to_string();
        let wanted: Wanted = Arc::new(move |letter| Death::unexplained(&letter.properties, &name).is_some());
        let Some(picked) = unless_left(leave, self.queue.pick(wanted)).await else {
            return Ok(false);
        };
        let mut picked = picked?;
        let (letters, more) = (std::mem::take(&mut picked.letters), picked.more);
        let count = letters.len();
        let completed = match count {
            0 => Some(()),
            _ => self.complete_all(letters, leave).await,
        };
        picked.close().await;
        if completed.is_none() && !leave.is_cancelled() {
            let reason = "their connection was lost".to_owned();
            return Err(PickError { reason });
        }
        if more && count == 0 {
            tracing::warn!(
                "letters: user.dead-letters holds so many that the latest are not looked at; redrive or discard \
                 some: what the broker dead-letters behind them has no event yet"
            );
        }
        Ok(more && count > 0)
    }

    /// One by one, so that they keep their order. `None`: left, or lost; the others go back.
    async fn complete_all(&self, letters: Vec<Delivery>, leave: &CancellationToken) -> Option<()> {
        // An outcome that somebody told before the broker gave the command up is in the log by now.
        let reading = self.hands.waits();
        unless_left(leave, self.fleet.barrier()).await?;
        drop(reading);
        for letter in letters {
            if leave.is_cancelled() || !letter.usable() {
                return None;
            }
            self.complete(letter, leave).await?;
        }
        Some(())
    }

    /// `None`: left, or lost.
    async fn complete(&self, mut letter: Delivery, leave: &CancellationToken) -> Option<()> {
        let began = Instant::now();
        let death = Death::unexplained(&letter.properties, self.hands.name.as_str())?;
        letter.redelivered = ["rejected", "delivery_limit"].contains(&death.word.as_str());
        (letter.partition, letter.bulk) = (death.partition, death.bulk);
        letter.exchange = death.exchange;
        letter.routing_key = death.routing_key;
        let ident = ident(&decode(&letter.body), &letter);
        let hands = &self.hands;
        if let Ok(begun) = hands.past_elsewhere(&ident, letter.received_at, leave).await? {
            let was_begun = begun.called || !begun.open.is_empty();
            let settlement = Settlement {
                outcome: Outcome::Failure(failure(&death.word, was_begun)),
                attempts: 0,
                duration: began.elapsed(),
            };
            hands.settler.announce(&ident, &letter).await;
            hands
                .tell(&ident, &letter, &settlement, None, &Codes::default())
                .await;
            hands.ledger.settle(&ident, settlement.clone(), hands.clock.now());
            metrics::command_settled(&settlement.outcome, Held::class(&letter), settlement.duration);
        }
        failpoint::reach("before_ack", ident.user_id.as_deref());
        acked(letter, &ident).await.then_some(())
    }
}

/// What the broker's word for it means, and what to do about it.
fn failure(word: &str, was_begun: bool) -> Failure {
    let (reason, mend) = match word {
        "expired" => (
            Reason::Expired,
            "its time to live in the queue ran out (its expiration, or a message-ttl policy); publish it again, \
             if it still matters",
        ),
        "rejected" => (
            Reason::Poison,
            "a consumer of the command queue that is not usher's refused it; stop that consumer, look at the \
             user, and send it again",
        ),
        "delivery_limit" => (
            Reason::Poison,
            "it was delivered as often as the queue allows and never settled; find out what breaks the workers \
             or takes commands from them, look at the user, and send it again",
        ),
        "maxlen" => (
            Reason::Poison,
            "the command queue is longer than a policy allows; remove the policy, and send it again",
        ),
        _ => (
            Reason::Poison,
            "look for a policy or a consumer on the command queue that is not usher's, look at the user, and \
             send it again",
        ),
    };
    let begun = match was_begun {
        true => "; a worker may have called the provider for it before: look at the user first",
        false => "",
    };
    let word = quotable(word);
    Failure::new(
        reason,
        format!("the broker dead-lettered it ({word}): {mend}{begun}"),
    )
}

/// Headers can be forged: what is no word of a broker may be somebody's data.
fn quotable(word: &str) -> &str {
    let is_word = (1..=40).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_word { word } else { "for no known reason" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::death::EXPLANATION;
    use crate::contract::dead_letter::REASON;

    #[test]
    fn the_broker_s_port_knows_a_reason_by_the_contract_s_header() {
        assert_eq!(EXPLANATION, REASON);
    }

    #[test]
    fn the_broker_s_word_is_quoted_and_somebody_s_data_is_not() {
        for (word, reason) in [
            ("expired", Reason::Expired),
            ("rejected", Reason::Poison),
            ("delivery_limit", Reason::Poison),
            ("maxlen", Reason::Poison),
            ("a_word_of_tomorrow", Reason::Poison),
        ] {
            let failure = failure(word, false);
            assert_eq!(failure.reason, reason);
            assert!(
                failure.detail.contains(&format!("({word})")),
                "{}",
                failure.detail
            );
        }
        for word in ["", "Alex@Example", "+61412345678", &"a".repeat(41)] {
            let detail = failure(word, true).detail.into_owned();
            assert!(detail.contains("(for no known reason)"), "{detail}");
            assert!(detail.ends_with("look at the user first"), "{detail}");
        }
    }
}
