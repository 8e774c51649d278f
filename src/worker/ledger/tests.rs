//! The ledger, from what this process does and from what the log says.

use super::*;
use crate::broker::{Header, Properties};
use crate::contract::event::{Event, EventIds};
use crate::contract::{Failure, ProviderName, Reason};
use bytes::Bytes;

fn ident(n: u128, redrives: u32) -> Ident {
    Ident {
        key: Uuid::from_u128(n),
        event_ids: EventIds::new(&Uuid::from_u128(n), redrives),
        command_id: None,
        user_id: None,
        batch_id: None,
        fields: Vec::new(),
        redrives,
        issued_at: None,
    }
}

fn ledger(commands_max: usize) -> Ledger {
    Ledger::new(WorkerId::new("me"), commands_max)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn run(worker: &str, number: u64) -> RunId {
    RunId {
        worker: WorkerId::new(worker),
        number,
    }
}

fn settlement(outcome: Outcome, attempts: u32, duration: Duration) -> Settlement {
    Settlement {
        outcome,
        attempts,
        duration,
        merged_into: None,
    }
}

fn success() -> Settlement {
    settlement(
        Outcome::Success {
            changed: true,
            version: None,
        },
        1,
        Duration::ZERO,
    )
}

fn failure() -> Settlement {
    let failure = Failure::new(Reason::Conflict, "detail");
    settlement(Outcome::Failure(failure), 3, Duration::from_millis(40))
}

const BODY: &[u8] = b"body";

/// The run that is next for a command which came under this number, and whether it has succeeded, with another body.
fn next(ledger: &Ledger, n: u128, redrives: u32, body: &[u8]) -> (u32, Option<bool>) {
    let mut ident = ident(n, redrives);
    let succeeded = ledger.next_run(&mut ident, body);
    assert_eq!(ident, ident.at(ident.redrives), "its events are of that run");
    (ident.redrives, succeeded.map(|succeeded| succeeded.other_body))
}

fn logged(event: &Event, headers: &[(&str, &str)]) -> Message {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Header::Text((*value).to_owned())));
    Message {
        exchange: "user.outcomes".to_owned(),
        routing_key: String::new(),
        properties: Properties::default().with_headers(headers),
        body: Bytes::from(serde_json::to_vec(event).unwrap()),
        mandatory: false,
    }
}

fn start(n: u128, run: &str, headers: &[(&str, &str)]) -> Message {
    let provider = ProviderName::parse("sivo").unwrap();
    let mut message = logged(&Event::start(&provider, &ident(n, 0), false, at(1)), headers);
    message.properties = message.properties.with_app_id(run);
    message
}

fn terminal(n: u128, settlement: &Settlement) -> Message {
    let provider = ProviderName::parse("sivo").unwrap();
    logged(
        &Event::terminal(&provider, &ident(n, 0), false, settlement, at(2)),
        &[],
    )
}

#[test]
fn the_ledger_keeps_the_latest_events_and_knows_since_when_it_is_complete() {
    let ledger = ledger(1);
    assert!(ledger.is_complete_since(at(0)));
    for n in 0..3 {
        ledger.settle(&ident(n, 0), &success(), BODY, at(n as i64));
    }
    assert_eq!(next(&ledger, 0, 0, BODY), (0, None));
    assert_eq!(next(&ledger, 1, 0, BODY), (1, Some(false)));
    assert_eq!(next(&ledger, 2, 0, BODY), (1, Some(false)));
    assert!(!ledger.is_complete_since(Timestamp::MIN) && ledger.is_complete_since(at(0)));
}

#[test]
fn outcomes_of_other_workers_are_known_from_the_log() {
    let ledger = ledger(10);
    ledger.read(terminal(1, &failure()), LogPart::End);
    ledger.read(terminal(2, &success()), LogPart::End);
    assert_eq!(next(&ledger, 1, 0, BODY), (1, None), "its next redrive");
    let mut second = ident(2, 0);
    let succeeded = ledger.next_run(&mut second, BODY).unwrap();
    assert_eq!((succeeded.ident, succeeded.settlement), (ident(2, 0), success()));
    assert_eq!(next(&ledger, 3, 0, BODY), (0, None));
}

fn success_with_version(version: &str) -> Settlement {
    let outcome = Outcome::Success {
        changed: true,
        version: Version::parse(version),
    };
    settlement(outcome, 1, Duration::ZERO)
}

/// As `terminal`, of a user and at a moment.
fn success_at(n: u128, version: &str, second: i64) -> Message {
    let provider = ProviderName::parse("sivo").unwrap();
    let of_user = Ident {
        user_id: Some("u".into()),
        ..ident(n, 0)
    };
    logged(
        &Event::terminal(
            &provider,
            &of_user,
            false,
            &success_with_version(version),
            at(second),
        ),
        &[],
    )
}

fn version(ledger: &Ledger) -> Option<String> {
    let version = ledger.version(&UserId::parse("u").unwrap());
    version.map(|version| version.as_str().to_owned())
}

#[test]
fn the_version_of_a_user_is_that_of_its_latest_success_however_the_log_is_read() {
    let ledger = ledger(2);
    assert_eq!(version(&ledger), None);
    ledger.begins();
    ledger.read(success_at(3, "3", 30), LogPart::End);
    ledger.read(success_at(1, "1", 10), LogPart::Earlier);
    ledger.read(success_at(2, "2", 20), LogPart::Earlier);
    ledger.is_read();
    assert_eq!(version(&ledger).as_deref(), Some("3"));
    // Published again, and by a worker whose clock is behind.
    ledger.read(success_at(1, "1", 40), LogPart::End);
    assert_eq!(version(&ledger).as_deref(), Some("3"));
    ledger.read(success_at(4, "4", 25), LogPart::End);
    assert_eq!(version(&ledger).as_deref(), Some("4"));
    for n in 5..9 {
        ledger.read(terminal(n, &success()), LogPart::End);
    }
    assert_eq!(version(&ledger), None, "it is forgotten with its success");
}

#[test]
fn a_success_is_published_again_with_its_version() {
    let ledger = ledger(2);
    ledger.read(success_at(1, "W/\"1\"", 10), LogPart::End);
    let succeeded = ledger.next_run(&mut ident(1, 0), BODY).unwrap();
    assert_eq!(succeeded.settlement, success_with_version("W/\"1\""));
}

#[test]
fn a_command_that_failed_is_run_under_the_next_number_and_one_that_succeeded_is_not() {
    let ledger = ledger(10);
    ledger.settle(&ident(1, 0), &failure(), BODY, at(1));
    ledger.settle(&ident(1, 1), &failure(), BODY, at(2));
    // Another publish, the first dead letter, the second one, and a number that nobody has used.
    assert_eq!(next(&ledger, 1, 0, BODY), (2, None));
    assert_eq!(next(&ledger, 1, 1, BODY), (2, None));
    assert_eq!(next(&ledger, 1, 2, BODY), (2, None));
    assert_eq!(next(&ledger, 1, 7, BODY), (7, None));
    ledger.settle(&ident(1, 2), &success(), BODY, at(3));
    for redrives in 0..4 {
        assert_eq!(next(&ledger, 1, redrives, BODY), (3, Some(false)), "{redrives}");
        assert_eq!(
            next(&ledger, 1, redrives, b"other"),
            (3, Some(true)),
            "{redrives}"
        );
    }
    // The dead letter that says so comes back, too.
    ledger.settle(&ident(1, 3), &failure(), b"other", at(4));
    assert_eq!(next(&ledger, 1, 4, b"other"), (4, Some(true)));
}

#[test]
fn another_body_is_known_by_its_field_names_where_another_process_had_it() {
    let ledger = ledger(10);
    let mut named = ident(1, 0);
    named.fields = vec!["email", "phone"];
    let provider = ProviderName::parse("sivo").unwrap();
    let succeeded = Event::terminal(&provider, &named, false, &success(), at(2));
    ledger.read(logged(&succeeded, &[]), LogPart::End);
    let other_body = |fields: &[&'static str]| {
        let mut ident = ident(1, 0);
        ident.fields = fields.to_vec();
        ledger.next_run(&mut ident, BODY).unwrap().other_body
    };
    assert!(!other_body(&["phone", "email"]));
    assert!(other_body(&["email"]));
    // Reading one's own events back loses nothing.
    ledger.settle(&ident(2, 0), &success(), BODY, at(1));
    ledger.read(terminal(2, &success()), LogPart::End);
    assert_eq!(next(&ledger, 2, 0, b"other"), (1, Some(true)));
}

#[test]
fn a_lost_ack_is_repeated_once_for_the_same_message_alone() {
    let ledger = ledger(10);
    ledger.ack_lost(&ident(1, 0), BODY);
    assert!(!ledger.only_ack_was_lost(&ident(1, 0), b"corrected"));
    assert!(!ledger.only_ack_was_lost(&ident(2, 0), BODY));
    assert!(ledger.only_ack_was_lost(&ident(1, 0), BODY));
    assert!(!ledger.only_ack_was_lost(&ident(1, 0), BODY));
}

#[test]
fn a_run_is_open_until_it_is_handed_back() {
    let ledger = ledger(10);
    assert_eq!(ledger.begun(&ident(1, 0)), OpenRuns::default());
    ledger.read(start(1, "a/1", &[]), LogPart::End);
    ledger.read(start(1, "a/1", &[]), LogPart::End);
    ledger.read(start(1, "a/2", &[]), LogPart::End);
    ledger.begin(&ident(1, 0), run("me", 7), at(1));
    let begun = ledger.begun(&ident(1, 0));
    assert_eq!(begun.open, [run("a", 1), run("a", 2), run("me", 7)]);
    assert_eq!((begun.workers(), begun.called), (2, false));
    ledger.read(start(1, "a/1", &[(HANDED_BACK, "untouched")]), LogPart::End);
    ledger.hand_back(&ident(1, 0), &run("me", 7), true, at(1));
    let begun = ledger.begun(&ident(1, 0));
    assert_eq!((begun.open.len(), begun.called), (1, true));
}

#[test]
fn an_event_read_late_reopens_no_run_and_overwrites_nothing() {
    let ledger = ledger(10);
    ledger.begins();
    ledger.read(start(1, "a/1", &[(HANDED_BACK, "called")]), LogPart::End);
    ledger.settle(&ident(2, 0), &success(), BODY, at(3));
    ledger.read(start(1, "a/1", &[]), LogPart::Earlier);
    ledger.read(start(1, "b/1", &[]), LogPart::Earlier);
    ledger.read(terminal(2, &success()), LogPart::Earlier);
    let begun = ledger.begun(&ident(1, 0));
    assert_eq!((begun.open, begun.called), (vec![run("b", 1)], true));
    assert_eq!(
        next(&ledger, 2, 0, b"other"),
        (1, Some(true)),
        "its body is known"
    );
    ledger.is_read();
    assert_eq!(ledger.begun(&ident(1, 0)).open, [run("b", 1)]);
}

#[test]
fn hand_backs_without_a_start_are_bounded() {
    let ledger = ledger(3);
    ledger.begins();
    for n in 0..100 {
        ledger.read(start(n, "a/1", &[(HANDED_BACK, "called")]), LogPart::End);
    }
    let state = ledger.state();
    assert_eq!(state.earlier.as_ref().unwrap().ended.len(), 6);
    assert_eq!(state.seen.len(), 6);
}

#[test]
fn nothing_is_complete_before_the_older_part_is_read_nor_where_it_is_cut() {
    let ledger = ledger(10);
    ledger.reads_since(at(1));
    for cut in [false, true] {
        ledger.begins();
        ledger.read(terminal(1, &success()), LogPart::End);
        assert!(!ledger.is_complete_since(at(9)));
        if cut {
            ledger.is_cut();
        }
        // The event's time is another second.
        ledger.read(start(2, "a/1", &[]), LogPart::Earlier);
        ledger.is_read();
        assert!(ledger.is_complete_since(at(1)));
        assert!(!ledger.is_complete_since(at(0)));
    }
}

#[test]
fn what_was_issued_after_the_ends_first_event_is_known_before_the_older_part_is_read() {
    let ledger = ledger(10);
    ledger.reads_since(at(0));
    ledger.begins();
    assert!(!ledger.knows_since(at(900)), "nothing is read");
    ledger.read(terminal(1, &success()), LogPart::End);
    let first = Logged::read(&terminal(1, &success()).properties, &terminal(1, &success()).body)
        .unwrap()
        .time;
    ledger.read(terminal(2, &success()), LogPart::End);
    assert!(ledger.knows_since(first));
    assert!(!ledger.knows_since(first - Duration::from_secs(1)));
    ledger.is_cut();
    assert!(!ledger.knows_since(first), "what is missing may be later");
    ledger.begins();
    assert!(!ledger.knows_since(first), "another reading began");
    ledger.is_read();
    assert!(ledger.knows_since(at(0)));
}

#[test]
fn the_oldest_events_are_dropped_first_in_any_order_of_reading() {
    let knows = |ledger: &Ledger, n| next(ledger, n, 0, BODY).1.is_some();
    // Room for six events: two of the end, and of the older part the latest four.
    let ledger = ledger(3);
    ledger.begins();
    for n in [7, 8] {
        ledger.read(terminal(n, &success()), LogPart::End);
    }
    for n in 1..=6 {
        ledger.read(terminal(n, &success()), LogPart::Earlier);
    }
    let known = |ledger: &Ledger| -> Vec<_> { (1..=12).filter(|n| knows(ledger, *n)).collect() };
    assert_eq!(known(&ledger), [3, 4, 5, 6, 7, 8]);
    ledger.read(terminal(9, &success()), LogPart::End);
    assert_eq!(known(&ledger), [4, 5, 6, 7, 8, 9]);
    ledger.is_read();
    for n in 10..=12 {
        ledger.settle(&ident(n, 0), &success(), BODY, at(3));
    }
    assert_eq!(known(&ledger), [7, 8, 9, 10, 11, 12]);
}

#[test]
fn open_runs_of_a_settled_command_are_forgotten() {
    let ledger = ledger(10);
    ledger.begin(&ident(1, 0), run("me", 7), at(1));
    ledger.begin(&ident(2, 0), run("me", 8), at(1));
    ledger.settle(&ident(1, 0), &success(), BODY, at(2));
    assert_eq!(ledger.begun(&ident(1, 0)), OpenRuns::default());
    assert_eq!(next(&ledger, 1, 0, BODY), (1, Some(false)));
    assert_eq!(ledger.begun(&ident(2, 0)).open, [run("me", 8)]);
}

#[tokio::test]
async fn a_barrier_of_our_own_is_waited_for_and_settles_nothing() {
    let ledger = ledger(10);
    let event = start(1, "a/1", &[(BARRIER, "another/9")]);
    ledger.read(event, LogPart::End);
    let waiting = ledger.barrier(2);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    ledger.read(start(1, "a/1", &[(BARRIER, "me/2")]), LogPart::End);
    waiting.await;
    assert_eq!(ledger.begun(&ident(1, 0)), OpenRuns::default());
    assert!(ledger.latest().is_none());
}

/// What a worker did about one of some commands.
#[derive(Clone, Copy)]
enum Did {
    Begin,
    HandBack(bool),
    Succeed,
    Fail,
}

/// What three workers, of whom one is this one, may have done about six commands, in the log's order.
fn story(rng: &mut fastrand::Rng) -> Vec<(u128, RunId, Did)> {
    let mut story = Vec::new();
    let mut open: HashMap<u128, Vec<RunId>> = HashMap::new();
    let mut ended = Vec::new();
    for number in 0..rng.u64(1..40) {
        let n = rng.u128(0..6);
        let runs = open.entry(n).or_default();
        if ended.contains(&n) {
            continue;
        }
        if runs.is_empty() || rng.u8(..4) == 0 {
            let run = run(["a", "b", "me"][rng.usize(..3)], number);
            runs.push(run.clone());
            story.push((n, run, Did::Begin));
            continue;
        }
        let run = runs.swap_remove(rng.usize(..runs.len()));
        let did = match rng.u8(..4) {
            0 => Did::Succeed,
            1 => Did::Fail,
            _ => Did::HandBack(rng.bool()),
        };
        if !matches!(did, Did::HandBack(_)) {
            ended.push(n);
        }
        story.push((n, run, did));
    }
    story
}

fn as_logged((n, run, did): &(u128, RunId, Did)) -> Message {
    let how = |called: bool| if called { "called" } else { "untouched" };
    match did {
        Did::Begin => start(*n, &run.to_string(), &[]),
        Did::HandBack(called) => start(*n, &run.to_string(), &[(HANDED_BACK, how(*called))]),
        Did::Succeed => terminal(*n, &success()),
        Did::Fail => terminal(*n, &failure()),
    }
}

fn done_here(ledger: &Ledger, (n, run, did): &(u128, RunId, Did)) {
    let (ident, now) = (ident(*n, 0), at(3));
    match did {
        Did::Begin => ledger.begin(&ident, run.clone(), now),
        Did::HandBack(called) => ledger.hand_back(&ident, run, *called, now),
        Did::Succeed => ledger.settle(&ident, &success(), BODY, now),
        Did::Fail => ledger.settle(&ident, &failure(), BODY, now),
    }
}

/// The next run of each command, and the open runs of those that have no end.
fn known_of_all(ledger: &Ledger) -> Vec<(u32, Option<bool>, Vec<String>, bool)> {
    let known = |n| {
        let (run, succeeded) = next(ledger, n, 0, BODY);
        let begun = match run {
            0 => ledger.begun(&ident(n, 0)),
            _ => OpenRuns::default(),
        };
        let mut open: Vec<_> = begun.open.iter().map(RunId::to_string).collect();
        open.sort();
        (run, succeeded, open, begun.called)
    };
    (0..6).map(known).collect()
}

/// The listener reads both parts of the log beside each other, while the worker's own tasks do what the log says later.
#[test]
fn the_ledger_ends_the_same_in_any_order_of_events() {
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let story = story(&mut rng);
        let in_order = ledger(100);
        for event in &story {
            in_order.read(as_logged(event), LogPart::End);
        }
        // This worker began with the end of the log: what it did itself is all there.
        let first_own = story
            .iter()
            .position(|(_, run, _)| run.worker == WorkerId::new("me"));
        let split = rng.usize(..=first_own.unwrap_or(story.len()));
        let (earlier, end) = story.split_at(split);
        let own: Vec<_> = end
            .iter()
            .enumerate()
            .filter(|(_, (_, run, _))| run.worker == WorkerId::new("me"))
            .collect();
        let mixed = ledger(100);
        mixed.begins();
        let (mut read_earlier, mut read_end, mut done) = (0, 0, 0);
        while read_earlier < earlier.len() || read_end < end.len() {
            // Nothing is logged before it is done.
            let may_read = own.get(done).is_none_or(|(place, _)| read_end < *place);
            match rng.u8(..3) {
                0 if read_earlier < earlier.len() => {
                    mixed.read(as_logged(&earlier[read_earlier]), LogPart::Earlier);
                    read_earlier += 1;
                }
                1 if read_end < end.len() && may_read => {
                    mixed.read(as_logged(&end[read_end]), LogPart::End);
                    read_end += 1;
                }
                2 if done < own.len() => {
                    done_here(&mixed, own[done].1);
                    done += 1;
                }
                _ => {}
            }
        }
        mixed.is_read();
        assert_eq!(known_of_all(&mixed), known_of_all(&in_order), "seed {seed}");
    }
}
