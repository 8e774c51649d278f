//! Completes commands that the broker itself dead-lettered: they have no outcome event yet, and the broker's dead
//! letter names no reason.
//!
//! Any worker does it for all providers: the broker delivers each message to one of them at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::failpoint;
use super::fleet::Fleet;
use super::received::{age, begin_trace, class, ident};
use super::runner::{Runner, acked, tell_trace};
use super::settle::Settler;
use super::shutdown::unless_cancelled;
use super::waits::Wait;
use crate::broker::topology::BROKER_DEAD_LETTERS;
use crate::broker::{Delivery, XDeath};
use crate::contract::outcome::Settlement;
use crate::contract::{BODY_BYTES_MAX, Failure, Ident, Outcome, ProviderName, Reason, decode};
use crate::metrics;
use crate::provider::Codes;

/// How long a stopping worker waits for the message being completed.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(2);

/// The task, and the token that ends it.
pub(super) struct ReconcilerTask {
    cancel: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl ReconcilerTask {
    pub(super) fn start(runner: Arc<Runner>, fleet: Arc<Fleet>) -> Self {
        let cancel = CancellationToken::new();
        let reconciler = Reconciler { runner, fleet };
        let run = reconciler.run(cancel.clone());
        Self {
            cancel,
            task: AbortOnDropHandle::new(tokio::spawn(run)),
        }
    }

    /// Waits for an unexpected end of the task.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }

    /// Finishes the message being completed, and begins no other.
    pub(super) async fn end(self) {
        self.cancel.cancel();
        let _ = timeout(IN_FLIGHT_MAX, self.task).await;
    }
}

struct Reconciler {
    runner: Arc<Runner>,
    fleet: Arc<Fleet>,
}

/// A message that the broker dead-lettered, the broker's reason, and the provider for which it is completed.
struct BrokerDeadLetter {
    delivery: Delivery,
    broker_reason: String,
    provider: ProviderName,
}

impl Reconciler {
    async fn run(self, cancel: CancellationToken) {
        while let Some(delivery) = unless_cancelled(&cancel, self.fleet.broker_dead_letter()).await {
            if self.take(delivery, &cancel).await.is_none() {
                tracing::debug!(
                    "reconciler: a dead letter of the broker's was not completed; it is redelivered"
                );
            }
        }
    }

    /// `None`: cancelled, or the delivery is stale.
    async fn take(&self, delivery: Delivery, cancel: &CancellationToken) -> Option<()> {
        let death = XDeath::latest(&delivery.properties);
        if death.as_ref().is_some_and(XDeath::is_of_lease_queue) {
            let queue = death.map(|death| death.queue);
            tracing::error!(
                queue,
                "reconciler: the broker dead-lettered a lease's token: another client consumes its queue; stop it"
            );
            return delivery.ack().await.ok();
        }
        let dead_letter = self.read(delivery, death);
        self.complete(dead_letter, cancel).await
    }

    fn read(&self, mut delivery: Delivery, death: Option<XDeath>) -> BrokerDeadLetter {
        let own = || self.runner.name.clone();
        let Some(death) = death else {
            return BrokerDeadLetter {
                delivery,
                broker_reason: String::new(),
                provider: own(),
            };
        };
        let queue = death.command_queue();
        let provider = queue.and_then(|(provider, ..)| ProviderName::parse(provider));
        if let Some((_, partition, bulk)) = queue {
            (delivery.partition, delivery.bulk) = (partition, bulk);
        }
        // Only these were delivered to a consumer before: a worker may have run them.
        delivery.redelivered |= ["rejected", "delivery_limit"].contains(&death.reason.as_str());
        delivery.exchange = death.exchange;
        delivery.routing_key = death.routing_key;
        BrokerDeadLetter {
            delivery,
            broker_reason: death.reason,
            provider: provider.unwrap_or_else(own),
        }
    }

    /// `None`: cancelled, or the delivery is stale.
    async fn complete(&self, dead_letter: BrokerDeadLetter, cancel: &CancellationToken) -> Option<()> {
        let BrokerDeadLetter {
            mut delivery,
            broker_reason,
            provider,
        } = dead_letter;
        let (runner, began) = (&self.runner, Instant::now());
        let mut ident = ident(&decode(&delivery.body), &delivery);
        if let Some(traces) = &runner.traces {
            begin_trace(traces, &mut delivery, &ident, &provider, |_| {
                BROKER_DEAD_LETTERS.to_owned()
            });
        }
        let _claim = unless_cancelled(cancel, runner.claims.claim(ident.key)).await?;
        self.read_log(&provider, cancel).await?;
        // A command that has succeeded needs no dead letter: its event is published.
        if let Ok(begun) = runner.history_elsewhere(&mut ident, &delivery, cancel).await? {
            let was_begun = begun.called || !begun.open.is_empty();
            let settlement = Settlement {
                outcome: Outcome::Failure(self.failure(&delivery, &broker_reason, was_begun)),
                attempts: 0,
                duration: began.elapsed(),
                merged_into: None,
            };
            self.publish(&provider, &ident, &delivery, &settlement).await;
            tell_trace(&delivery, &settlement);
        } else if let Some(process) = &delivery.trace {
            process.repeated();
        }
        failpoint::reach("before_ack", ident.user_id.as_deref());
        acked(delivery, &ident).await.then_some(())
    }

    /// Reads the log up to now: it holds every outcome that was published before the broker dead-lettered the command.
    async fn read_log(&self, provider: &ProviderName, cancel: &CancellationToken) -> Option<()> {
        let _reading = self.runner.caller.waits.begin(Wait::Log);
        if *provider != self.runner.name {
            unless_cancelled(cancel, self.fleet.read_all_providers()).await?;
        }
        unless_cancelled(cancel, self.fleet.barrier()).await
    }

    async fn publish(
        &self,
        provider: &ProviderName,
        ident: &Ident,
        delivery: &Delivery,
        settlement: &Settlement,
    ) {
        let runner = &self.runner;
        let settler = Settler {
            provider: provider.clone(),
            ..runner.settler.clone()
        };
        settler.announce(ident, delivery).await;
        runner
            .publish_outcome(&settler, ident, delivery, settlement, None, &Codes::default())
            .await;
        runner
            .ledger
            .settle(ident, settlement, &delivery.body, runner.clock.now());
        let (class, age) = (class(delivery), age(ident, delivery, runner.clock.now()));
        metrics::command_settled(&settlement.outcome, class, settlement.duration, age);
    }

    fn failure(&self, delivery: &Delivery, broker_reason: &str, was_begun: bool) -> Failure {
        // Workers reject oversized bodies undecoded, so that they hold no more than one of them.
        match decode(&delivery.body) {
            Err(failure) if delivery.body.len() > BODY_BYTES_MAX => failure,
            _ => failure(broker_reason, was_begun),
        }
    }
}

/// The failure for the broker's reason, with what to do about it.
fn failure(broker_reason: &str, was_begun: bool) -> Failure {
    let (reason, remedy) = match broker_reason {
        "expired" => (
            Reason::Expired,
            "its time to live in the queue ran out (its expiration, or a message-ttl policy); publish it again if it \
             is still needed",
        ),
        "rejected" => (
            Reason::Poison,
            "a consumer of the command queue that is not usher's rejected it; stop that consumer, check the user, \
             and send it again",
        ),
        "delivery_limit" => (
            Reason::Poison,
            "it was delivered as often as the queue allows and never settled; find out what breaks the workers or \
             takes commands from them, check the user, and send it again",
        ),
        "maxlen" => (
            Reason::Poison,
            "the command queue is longer than a policy allows; remove the policy, and send it again",
        ),
        _ => (
            Reason::Poison,
            "look for a policy or a consumer on the command queue that is not usher's, check the user, and send it \
             again",
        ),
    };
    let begun = match was_begun {
        true => "; a worker may have called the provider for it before: look at the user first",
        false => "",
    };
    let broker_reason = quotable(broker_reason);
    Failure::new(
        reason,
        format!("the broker dead-lettered it ({broker_reason}): {remedy}{begun}"),
    )
}

/// Headers can be forged: a text that is not of the form of a broker's reason may be a user's data.
fn quotable(broker_reason: &str) -> &str {
    let is_plain = (1..=40).contains(&broker_reason.len())
        && broker_reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_plain {
        broker_reason
    } else {
        "for no known reason"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_s_reason_is_quoted_and_a_forged_one_is_not() {
        for (broker_reason, reason) in [
            ("expired", Reason::Expired),
            ("rejected", Reason::Poison),
            ("delivery_limit", Reason::Poison),
            ("maxlen", Reason::Poison),
            ("a_word_of_tomorrow", Reason::Poison),
        ] {
            let failure = failure(broker_reason, false);
            assert_eq!(failure.reason, reason);
            assert!(
                failure.detail.contains(&format!("({broker_reason})")),
                "{}",
                failure.detail
            );
        }
        for broker_reason in ["", "Alex@Example", "+61412345678", &"a".repeat(41)] {
            let detail = failure(broker_reason, true).detail.into_owned();
            assert!(detail.contains("(for no known reason)"), "{detail}");
            assert!(detail.ends_with("look at the user first"), "{detail}");
        }
    }
}
