//! How the outcome log is read, on both brokers: its end first, and the older part beside what is new.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use usher::broker::topology::OUTCOMES;
use usher::broker::{Extent, FleetMessage, Listener, Publisher};

use crate::bench::{Bench, promises};
use crate::support::{message, moment, numbers};

promises!(
    the_outcome_log_is_read_from_the_time_that_is_wanted,
    the_end_of_the_outcome_log_comes_first_and_then_the_older_part_once_and_whole,
    a_long_outcome_log_is_read_within_the_extent,
    an_empty_outcome_log_is_read_at_once_and_later_events_arrive,
    the_present_is_reached_while_another_client_keeps_publishing,
    without_a_recent_event_the_last_one_is_read,
    an_outcome_log_that_is_read_on_another_connection_leaves_nothing_out,
);

const HOUR: Duration = Duration::from_secs(3600);

/// What came of one reading.
#[derive(Debug, Default)]
struct Reading {
    end: Vec<String>,
    earlier: Vec<String>,
    cut: bool,
    /// How many of the older part came before the present was reached.
    too_soon: usize,
    present: bool,
    complete: bool,
}

impl Reading {
    fn take(&mut self, message: FleetMessage) {
        match message {
            FleetMessage::Begins(_) => *self = Self::default(),
            FleetMessage::Logged(message) => self.end.push(text(&message.body)),
            FleetMessage::Earlier(message) => {
                self.too_soon += usize::from(!self.present);
                self.earlier.push(text(&message.body));
            }
            FleetMessage::Cut => self.cut = true,
            FleetMessage::Present => self.present = true,
            FleetMessage::Complete => self.complete = true,
            _ => {}
        }
    }

    fn has_read_up_to(&self, last: &str) -> bool {
        self.complete && self.end.last().is_some_and(|body| body == last)
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

async fn read_until(listener: &mut Box<dyn Listener>, enough: impl Fn(&Reading) -> bool) -> Reading {
    let mut reading = Reading::default();
    let enough_read = async {
        while !enough(&reading) {
            let message = listener.next().await;
            reading.take(message);
        }
    };
    let in_time = timeout(Duration::from_secs(20), enough_read).await;
    assert!(in_time.is_ok(), "{reading:?}");
    reading
}

async fn log(publisher: &dyn Publisher, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let outcome = message(OUTCOMES, "user.update.start.sivo", number);
        publisher.publish(&outcome).await.unwrap();
    }
}

fn back(bench: &dyn Bench, span: Duration, messages_max: usize, end_max: usize) -> Option<Extent> {
    Some(Extent {
        since: bench.clock().now() - span,
        messages_max,
        end_max,
    })
}

async fn the_outcome_log_is_read_from_the_time_that_is_wanted(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    log(&*publisher, 0..1).await;
    // The broker's times are whole seconds.
    moment(Instant::now() + Duration::from_secs(2)).await;
    let since = bench.clock().now();
    moment(Instant::now() + Duration::from_secs(1)).await;
    log(&*publisher, 1..4).await;
    let mut listener = bench.listener().await;
    let all = |since, end_max| Extent {
        since,
        messages_max: 1000,
        end_max,
    };
    listener.follow(Some(all(since, 500)));
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("3")).await;
    assert_eq!((reading.end, reading.earlier), (numbers(1..4), vec![]));
    listener.follow(Some(all(since, 1)));
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("3")).await;
    assert_eq!((reading.end, reading.earlier), (numbers(3..4), numbers(1..3)));
    listener.follow(None);
    listener.follow(Some(all(since - Duration::from_secs(60), 2)));
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("3")).await;
    assert_eq!((reading.end, reading.earlier), (numbers(2..4), numbers(0..2)));
}

async fn the_end_of_the_outcome_log_comes_first_and_then_the_older_part_once_and_whole(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    log(&*publisher, 0..300).await;
    let mut listener = bench.listener().await;
    listener.follow(back(bench, HOUR, 1000, 50));
    let reading = read_until(&mut listener, |reading| reading.present).await;
    assert_eq!((reading.end, reading.complete), (numbers(250..300), false));
    log(&*publisher, 300..310).await;
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("309")).await;
    assert_eq!(
        (reading.end, reading.earlier),
        (numbers(300..310), numbers(0..250))
    );
    assert!(!reading.cut);
}

async fn a_long_outcome_log_is_read_within_the_extent(bench: &dyn Bench) {
    log(&*bench.publisher().await, 0..60).await;
    let mut listener = bench.listener().await;
    listener.follow(back(bench, HOUR, 30, 10));
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("59")).await;
    assert!(reading.cut, "it says so");
    // A busy broker may not tell in time which message is the first of the extent: then the end is the last one alone.
    let end = 60 - reading.end.len();
    assert!([50, 59].contains(&end), "{:?}", reading.end);
    assert_eq!(
        (reading.end, reading.earlier),
        (numbers(end..60), numbers(30..end))
    );
    assert_eq!(reading.too_soon, 0);
}

async fn an_empty_outcome_log_is_read_at_once_and_later_events_arrive(bench: &dyn Bench) {
    let mut listener = bench.listener().await;
    let began = Instant::now();
    listener.follow(back(bench, HOUR, 1000, 10));
    let reading = read_until(&mut listener, |reading| reading.present && reading.complete).await;
    assert!(reading.end.is_empty() && began.elapsed() < Duration::from_secs(3));
    log(&*bench.publisher().await, 0..3).await;
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("2")).await;
    assert_eq!((reading.end, reading.earlier), (numbers(0..3), vec![]));
}

async fn the_present_is_reached_while_another_client_keeps_publishing(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let busy = publisher.clone();
    let neighbour = tokio::spawn(async move {
        for number in 0.. {
            let outcome = message(OUTCOMES, "user.update.start.other", number);
            let _ = busy.publish(&outcome).await;
            tokio::task::yield_now().await;
        }
    });
    log(&*publisher, 0..20).await;
    let mut listener = bench.listener().await;
    listener.follow(back(bench, HOUR, 1_000_000, 10));
    read_until(&mut listener, |reading| reading.present).await;
    neighbour.abort();
}

async fn without_a_recent_event_the_last_one_is_read(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    log(&*publisher, 0..3).await;
    moment(Instant::now() + Duration::from_secs(3)).await;
    let mut listener = bench.listener().await;
    listener.follow(back(bench, Duration::from_secs(1), 1000, 10));
    let reading = read_until(&mut listener, |reading| reading.present).await;
    assert_eq!(reading.end, ["2"]);
    log(&*publisher, 3..5).await;
    let reading = read_until(&mut listener, |reading| reading.has_read_up_to("4")).await;
    assert_eq!((reading.end, reading.earlier), (numbers(3..5), vec![]));
}

async fn an_outcome_log_that_is_read_on_another_connection_leaves_nothing_out(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    log(&*publisher, 0..300).await;
    let mut listener = bench.listener().await;
    listener.follow(back(bench, HOUR, 1000, 50));
    let mut reading = read_until(&mut listener, |reading| reading.earlier.len() == 20).await;
    bench.drop_connections().await;
    let enough_read = async {
        while !reading.complete {
            // What comes may come twice.
            match listener.next().await {
                FleetMessage::Begins(_) => {}
                other => reading.take(other),
            }
        }
    };
    assert!(
        timeout(Duration::from_secs(20), enough_read).await.is_ok(),
        "{reading:?}"
    );
    let mut all: Vec<u32> = reading
        .end
        .iter()
        .chain(&reading.earlier)
        .map(|n| n.parse().unwrap())
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, Vec::from_iter(0..300));
}
