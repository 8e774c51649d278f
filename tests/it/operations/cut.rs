//! Operations that are cut off at any moment, as by kill -9, and gone on with: nothing is lost, little is done twice.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use usher::broker::Config;
use usher::broker::memory::MemoryBroker;
use usher::broker::topology::{DEAD_LETTERS, Topology, operation_queue};
use usher::clock::Clock;
use usher::contract::lifecycle::{OperationEnd, OperationKind};
use usher::operations::dead_letters::Filter;
use usher::operations::operation::{self, Access, Options};
use usher::worker::Shutdown;

use super::{letters, planned, quick, silent};
use crate::support::PROVIDER;

pub const COUNT: usize = 40;
/// The most publishes in flight.
const IN_FLIGHT_MAX: usize = 32;

pub fn broker() -> (MemoryBroker, Access) {
    let clock = Clock::anchored(Clock::System.now());
    let broker = MemoryBroker::at(&Topology::new(PROVIDER, &Config::default()), clock);
    for n in 0..COUNT {
        broker.publish(&letters::letter(n)).unwrap();
    }
    broker.delay_confirms(Duration::from_millis(3));
    let access = Access {
        inspector: broker.inspector(),
        publisher: broker.publisher(),
        clock,
    };
    (broker, access)
}

/// What lies in a queue, by the command's id.
pub fn ids(broker: &MemoryBroker, queue: &str) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for message in broker.messages(queue) {
        *ids.entry(message.properties.message_id().unwrap().to_owned())
            .or_default() += 1;
    }
    ids
}

/// Each user's commands were sent in order; one that was sent twice came again before the next.
fn in_order(broker: &MemoryBroker, moment_ms: u64) {
    let mut latest: BTreeMap<String, String> = BTreeMap::new();
    for message in broker.messages("user.update.bulk.sivo.0") {
        let id = message.properties.message_id().unwrap().to_owned();
        let before = latest.insert(message.routing_key.clone(), id.clone());
        assert!(
            before.as_ref() <= Some(&id),
            "{moment_ms}: {id} came after {before:?}"
        );
    }
}

/// Runs it for so long, and cuts it off. Answers its id.
async fn cut(access: &Access, kind: OperationKind, options: &Options, moment: Duration) -> uuid::Uuid {
    let ready = planned(access, kind, &Filter::default(), options).await;
    let id = ready.id();
    let shutdown = Shutdown::new();
    let ran = timeout(moment, ready.run(&shutdown, &silent)).await;
    assert!(ran.is_err(), "it ended: {ran:?}");
    id
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_cut_at_any_moment_is_resumed_and_sends_everything() {
    let options = quick(0);
    for moment_ms in (0..120).step_by(3) {
        let moment = Duration::from_millis(moment_ms);
        let (broker, access) = broker();
        let id = cut(&access, OperationKind::Redrive, &options, moment).await;
        let ready = operation::resume(&access, id).await.unwrap();
        let report = ready.run(&Shutdown::new(), &silent).await.unwrap();
        assert_eq!(report.end, Some(OperationEnd::Done), "{moment_ms}");
        assert_eq!(report.counts.planned, COUNT as u64, "{moment_ms}");
        let sent = ids(&broker, "user.update.bulk.sivo.0");
        assert_eq!(sent.len(), COUNT, "{moment_ms}");
        in_order(&broker, moment_ms);
        let twice: usize = sent.values().map(|count| count - 1).sum();
        assert!(twice <= IN_FLIGHT_MAX, "{moment_ms}: {twice} were sent twice");
        assert_eq!(broker.depth(DEAD_LETTERS), 0, "{moment_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_cut_at_any_moment_is_aborted_and_no_dead_letter_is_doubled() {
    for moment_ms in (0..120).step_by(3) {
        let (broker, access) = broker();
        let moment = Duration::from_millis(moment_ms);
        let id = cut(&access, OperationKind::Redrive, &quick(0), moment).await;
        // Cut once more in the middle of it.
        let _cut = timeout(Duration::from_millis(7), operation::abort(&access, id, &silent)).await;
        let _ended_already = operation::abort(&access, id, &silent).await;
        let mut all = ids(&broker, DEAD_LETTERS);
        assert!(all.values().all(|count| *count == 1), "{moment_ms}: {all:?}");
        all.extend(ids(&broker, "user.update.bulk.sivo.0"));
        assert_eq!(all.len(), COUNT, "{moment_ms}");
        assert_eq!(broker.depth(&operation_queue(&id)), 0, "{moment_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_discard_that_is_cut_is_resumed_with_what_is_left() {
    for moment_ms in 0..6 {
        let (broker, access) = broker();
        let options = Options::default();
        let moment = Duration::from_millis(moment_ms);
        let id = cut(&access, OperationKind::Discard, &options, moment).await;
        // Another operator removes one, and another command dies.
        broker.take(DEAD_LETTERS);
        broker.publish(&letters::letter(COUNT)).unwrap();
        let ready = operation::resume(&access, id).await.unwrap();
        let report = ready.run(&Shutdown::new(), &silent).await.unwrap();
        assert_eq!(report.end, Some(OperationEnd::Done), "{moment_ms}");
        assert_eq!(report.counts.planned, COUNT as u64);
        let left = ids(&broker, DEAD_LETTERS);
        assert_eq!(
            left.into_keys().collect::<Vec<_>>(),
            [letters::id(COUNT)],
            "{moment_ms}"
        );
    }
}
