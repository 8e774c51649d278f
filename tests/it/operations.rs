//! What people do with dead letters, on both brokers: looked at, sent again, removed, cut off and gone on with.

mod blind;
mod cut;
mod letters;

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::time::Duration;

use usher::broker::topology::operation_queue;
use usher::contract::lifecycle::{Counts, OperationEnd, OperationKind};
use usher::operations::dead_letters::{Filter, look};
use usher::operations::operation::{
    self, Access, OperationError, Options, Rate, Ready, Report, State, failed_again,
};
use usher::worker::Shutdown;

use self::letters::{Worker, letter, lying, publish};
use crate::bench::{Bench, promises};
use crate::support::eventually;

promises!(
    looking_leaves_the_dead_letters_as_they_were,
    what_is_discarded_is_gone_and_told_of,
    a_redrive_sends_each_once_and_keeps_each_users_order,
    a_redrive_whose_first_commands_fail_again_stops_and_gives_the_rest_back,
    earlier_ends_are_no_outcomes_of_a_redrive,
    a_redrive_stops_when_later_commands_fail_again,
    a_redrive_without_outcomes_stops_and_gives_the_rest_back,
    an_interrupted_redrive_goes_on_where_it_stopped,
    an_aborted_redrive_gives_back_what_it_had_not_sent,
    what_died_after_the_plan_is_left_alone,
    what_does_not_say_where_it_came_from_is_left_alone,
);

/// Fast, and one user's order still shows.
fn quick(canary: u64) -> Options {
    Options {
        rate: Rate::per_second(NonZeroU32::new(500).unwrap()),
        canary,
        canary_timeout: Duration::from_secs(20),
        interactive: false,
    }
}

fn silent(_: &str) {}

async fn access(bench: &dyn Bench) -> Access {
    Access {
        inspector: bench.inspector().await,
        publisher: bench.publisher().await,
        clock: bench.clock(),
    }
}

async fn planned(access: &Access, kind: OperationKind, filter: &Filter, options: &Options) -> Ready {
    let plans = operation::plan(access, filter).await.unwrap();
    let [plan] = &plans.plans[..] else {
        panic!("one provider: {plans:?}");
    };
    operation::start(access, kind, plan, filter, "alex", options)
        .await
        .unwrap()
}

async fn redriven(access: &Access, options: &Options) -> Report {
    let ready = planned(access, OperationKind::Redrive, &Filter::default(), options).await;
    ready.run(&Shutdown::new(), &silent).await.unwrap()
}

async fn state_of(access: &Access, report: &Report) -> (State, Counts) {
    let record = operation::record(&*access.inspector, report.id).await.unwrap();
    let state = operation::state(&*access.inspector, &record).await.unwrap();
    (state, record.counts)
}

async fn looking_leaves_the_dead_letters_as_they_were(bench: &dyn Bench) {
    publish(bench, 0..40).await;
    let access = access(bench).await;
    let expected: Vec<_> = (0..40).map(letters::id).collect();
    for _ in 0..2 {
        let mut ids = Vec::new();
        let looked = look(&*access.inspector, |letter, _| {
            ids.push(letter.id.unwrap());
            ControlFlow::Continue(())
        });
        assert_eq!(looked.await.unwrap().seen, 40);
        assert_eq!(ids, expected);
        lying(&access, 40).await;
    }
}

async fn what_is_discarded_is_gone_and_told_of(bench: &dyn Bench) {
    publish(bench, 0..40).await;
    let access = access(bench).await;
    let filter = Filter {
        reasons: vec!["conflict".to_owned()],
        ..Filter::default()
    };
    let ready = planned(&access, OperationKind::Discard, &filter, &Options::default()).await;
    let report = ready.run(&Shutdown::new(), &silent).await.unwrap();
    let counts = Counts {
        planned: 20,
        done: 20,
        ..Counts::default()
    };
    assert_eq!((report.end, report.counts), (Some(OperationEnd::Done), counts));
    let left = lying(&access, 20).await;
    assert_eq!(
        left,
        (0..40)
            .filter(|n| n % 2 == 1)
            .map(letters::id)
            .collect::<Vec<_>>()
    );
    assert_eq!(state_of(&access, &report).await, (State::Done, counts));
    let queue = operation_queue(&report.id);
    assert_eq!(access.inspector.depth(&queue).await.unwrap(), None);
    let again = operation::resume(&access, report.id).await;
    assert!(matches!(again, Err(OperationError::HasEnded(_))));
}

async fn a_redrive_sends_each_once_and_keeps_each_users_order(bench: &dyn Bench) {
    publish(bench, 0..60).await;
    let access = access(bench).await;
    let worker = Worker::start(bench, |_| true).await;
    let report = redriven(&access, &quick(10)).await;
    let counts = Counts {
        planned: 60,
        done: 60,
        succeeded: 60,
        failed: 0,
    };
    assert_eq!((report.end, report.counts), (Some(OperationEnd::Done), counts));
    let got = worker.got();
    letters::check_order(&got);
    assert_eq!(got.len(), 60);
    for delivered in &got {
        assert!(delivered.bulk);
        assert_eq!(delivered.redrives, Some(0));
        assert!(delivered.dead_at && !delivered.counted);
    }
    assert!(lying(&access, 0).await.is_empty());
    assert_eq!(state_of(&access, &report).await, (State::Done, counts));
}

async fn a_redrive_whose_first_commands_fail_again_stops_and_gives_the_rest_back(bench: &dyn Bench) {
    publish(bench, 0..60).await;
    let access = access(bench).await;
    let worker = Worker::start(bench, |n| n % 3 == 0).await;
    let report = redriven(&access, &quick(10)).await;
    assert_eq!(report.end, Some(OperationEnd::Stopped));
    let counts = report.counts;
    assert_eq!((counts.planned, counts.done), (60, 10));
    assert!(
        report.why.as_ref().unwrap().contains("failed again"),
        "{report:?}"
    );
    let left = lying(&access, 50).await;
    let sent: Vec<_> = worker.got().into_iter().map(|got| got.id).collect();
    assert!(left.iter().all(|id| !sent.contains(id)));
    assert_eq!(state_of(&access, &report).await, (State::Stopped, counts));
    let record = operation::record(&*access.inspector, report.id).await.unwrap();
    let failed = failed_again(&*access.inspector, &record).await.unwrap();
    assert_eq!(failed.len() as u64, counts.failed);
    assert!(failed.iter().all(|failure| failure.reason == "conflict"));
}

async fn earlier_ends_are_no_outcomes_of_a_redrive(bench: &dyn Bench) {
    letters::publish_redriven(bench, 0..60, 2).await;
    let access = access(bench).await;
    let _worker = Worker::start(bench, |_| true).await;
    let report = redriven(&access, &quick(10)).await;
    assert_eq!(report.end, Some(OperationEnd::Done));
    assert_eq!((report.counts.succeeded, report.counts.failed), (60, 0));
}

async fn a_redrive_stops_when_later_commands_fail_again(bench: &dyn Bench) {
    publish(bench, 0..300).await;
    let access = access(bench).await;
    let worker = Worker::start(bench, |n| n < 30).await;
    let options = Options {
        rate: Rate::per_second(NonZeroU32::new(100).unwrap()),
        ..quick(5)
    };
    let report = redriven(&access, &options).await;
    assert_eq!(report.end, Some(OperationEnd::Stopped));
    let sent = report.counts.done;
    assert!((37..300).contains(&sent), "{report:?}");
    assert_eq!(lying(&access, 300 - sent).await.len() as u64, 300 - sent);
    assert_eq!(worker.got().len() as u64, sent);
}

async fn a_redrive_without_outcomes_stops_and_gives_the_rest_back(bench: &dyn Bench) {
    publish(bench, 0..20).await;
    let access = access(bench).await;
    let options = Options {
        canary_timeout: Duration::from_secs(1),
        ..quick(5)
    };
    let report = redriven(&access, &options).await;
    assert_eq!((report.end, report.counts.done), (Some(OperationEnd::Stopped), 5));
    assert!(report.why.unwrap().contains("5 commands have no outcome"));
    lying(&access, 15).await;
}

/// A redrive at a slow pace that is asked to stop after some commands.
async fn interrupted(access: &Access, worker: &Worker) -> Report {
    let options = Options {
        rate: Rate::per_second(NonZeroU32::new(20).unwrap()),
        ..quick(0)
    };
    let ready = planned(access, OperationKind::Redrive, &Filter::default(), &options).await;
    let shutdown = Shutdown::new();
    let stopping = async {
        eventually("some are sent", async || (worker.got().len() >= 7).then_some(())).await;
        shutdown.drain();
    };
    let (report, ()) = tokio::join!(ready.run(&shutdown, &silent), stopping);
    report.unwrap()
}

async fn an_interrupted_redrive_goes_on_where_it_stopped(bench: &dyn Bench) {
    publish(bench, 0..60).await;
    let access = access(bench).await;
    let worker = Worker::start(bench, |_| true).await;
    let report = interrupted(&access, &worker).await;
    assert_eq!(report.end, None);
    assert!((7..60).contains(&report.counts.done), "{report:?}");
    assert_eq!(state_of(&access, &report).await.0, State::Interrupted);
    let ready = operation::resume(&access, report.id).await.unwrap();
    let resumed = ready.run(&Shutdown::new(), &silent).await.unwrap();
    assert_eq!((resumed.end, resumed.counts.done), (Some(OperationEnd::Done), 60));
    let got = worker.got();
    assert_eq!(got.len(), 60);
    letters::check_order(&got);
    assert!(lying(&access, 0).await.is_empty());
}

async fn an_aborted_redrive_gives_back_what_it_had_not_sent(bench: &dyn Bench) {
    publish(bench, 0..60).await;
    let access = access(bench).await;
    let worker = Worker::start(bench, |_| true).await;
    let report = interrupted(&access, &worker).await;
    let aborted = operation::abort(&access, report.id, &silent).await.unwrap();
    assert_eq!(
        (aborted.end, aborted.counts.done),
        (Some(OperationEnd::Aborted), report.counts.done)
    );
    let got = worker.got();
    let left = lying(&access, 60 - got.len() as u64).await;
    assert!(got.iter().all(|got| !left.contains(&got.id)));
    assert_eq!(state_of(&access, &report).await.0, State::Aborted);
    let again = operation::abort(&access, report.id, &silent).await;
    assert!(matches!(again, Err(OperationError::HasEnded(_))));
}

async fn what_died_after_the_plan_is_left_alone(bench: &dyn Bench) {
    publish(bench, 0..10).await;
    let access = access(bench).await;
    let options = quick(0);
    let ready = planned(&access, OperationKind::Redrive, &Filter::default(), &options).await;
    publish(bench, 10..15).await;
    let worker = Worker::start(bench, |_| true).await;
    let report = ready.run(&Shutdown::new(), &silent).await.unwrap();
    assert_eq!((report.counts.planned, report.counts.done), (10, 10));
    assert_eq!(
        lying(&access, 5).await,
        (10..15).map(letters::id).collect::<Vec<_>>()
    );
    assert_eq!(worker.got().len(), 10);
}

async fn what_does_not_say_where_it_came_from_is_left_alone(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let mut strange = letter(3);
    strange.properties = usher::broker::Properties::persistent("strange", "text/plain");
    publisher.publish(&strange).await.unwrap();
    publish(bench, 0..2).await;
    let access = access(bench).await;
    let plans = operation::plan(&access, &Filter::default()).await.unwrap();
    assert_eq!((plans.plans[0].count, plans.unusable), (2, 1));
    lying(&access, 3).await;
    let options = Options::default();
    let ready = planned(&access, OperationKind::Discard, &Filter::default(), &options).await;
    let report = ready.run(&Shutdown::new(), &silent).await.unwrap();
    assert_eq!(report.counts.done, 2);
    assert_eq!(lying(&access, 1).await, [letters::id(3)]);
}
