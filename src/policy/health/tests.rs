//! One story a test: who is answered what, and what follows.

use super::*;
use crate::contract::Reason;

/// Nobody has passed yet.
const SPENT: Judgement = Judgement::Spent { streak: 0 };

struct Story {
    health: Health,
    rng: fastrand::Rng,
}

impl Story {
    fn new() -> Self {
        Self {
            health: Health::new(&retry::Config::default()),
            rng: fastrand::Rng::with_seed(1),
        }
    }

    fn fails(&mut self, name: &str, fault: Fault, since: Option<Mark>) -> Judgement {
        self.health.failed(
            &user(name),
            Call::Write,
            fault,
            since,
            Instant::now(),
            &mut self.rng,
        )
    }

    fn leave(&mut self) -> Leave {
        self.health.leave(&user("somebody"), Instant::now(), true)
    }

    async fn until_probe(&mut self) -> Leave {
        while let Leave::NotBefore(at) = self.leave() {
            tokio::time::sleep_until(at).await;
        }
        self.health.probe_dropped();
        self.leave()
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_user_that_always_fails_spends_its_attempts_and_pauses_nobody() {
    let mut story = Story::new();
    for _ in 0..20 {
        assert_eq!(story.fails("broken", Fault::Broken, None), SPENT);
        assert_eq!(story.leave(), Leave::Call);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_several_users_in_a_row_are_an_outage_and_spend_nothing() {
    let mut story = Story::new();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(story.fails(name, Fault::Broken, None), SPENT);
    }
    assert_eq!(story.fails("e", Fault::Broken, None), Judgement::Excused);
    assert_eq!(story.fails("a", Fault::Unknown, None), Judgement::Excused);
    assert!(matches!(story.leave(), Leave::NotBefore(_)));
    assert_eq!(story.health.paused().unwrap().0, Cause::Outage);
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_one_probe_at_a_time_goes_out_at_growing_gaps() {
    let mut story = Story::new();
    story.fails("a", Fault::Unreachable, None);
    let mut gaps = Vec::new();
    for _ in 0..6 {
        let before = Instant::now();
        assert_eq!(story.until_probe().await, Leave::Probe(None));
        assert_eq!(story.leave(), Leave::ProbeIsOut);
        gaps.push(before.elapsed());
        story.fails("a", Fault::Unreachable, None);
    }
    assert!(gaps[5] > gaps[0] * 8, "{gaps:?}");
    story.health.passed(&user("a"), Call::Write, Instant::now());
    assert_eq!(story.leave(), Leave::Call);
}

#[tokio::test(start_paused = true)]
async fn answers_of_calls_from_before_the_pause_do_not_lengthen_it() {
    let mut story = Story::new();
    story.fails("a", Fault::Credentials, None);
    let Leave::NotBefore(first) = story.leave() else {
        panic!()
    };
    for _ in 0..63 {
        story.fails("b", Fault::Credentials, None);
    }
    assert_eq!(story.leave(), Leave::NotBefore(first));
}

#[tokio::test(start_paused = true)]
async fn a_denied_user_is_forbidden_once_another_passes() {
    let mut story = Story::new();
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    let mark = Some(story.health.mark());
    assert_eq!(story.fails("x", Fault::Denied, None), Judgement::SetAside);
    assert_eq!(story.leave(), Leave::Call);
    story.health.passed(&user("x"), Call::Read, Instant::now());
    assert_eq!(story.fails("x", Fault::Denied, mark), Judgement::SetAside);
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    assert_eq!(story.fails("x", Fault::Denied, mark), Judgement::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn when_everybody_is_denied_the_credentials_are_at_fault() {
    let mut story = Story::new();
    story.fails("x", Fault::Denied, None);
    story.fails("y", Fault::Denied, None);
    assert_eq!(story.health.paused().unwrap().0, Cause::Credentials);
    assert_eq!(story.until_probe().await, Leave::Probe(None));
}

#[tokio::test(start_paused = true)]
async fn a_lone_denied_user_is_checked_against_one_that_passed_before() {
    let mut story = Story::new();
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    let mark = Some(story.health.mark());
    story.fails("x", Fault::Denied, mark);
    story.fails("x", Fault::Denied, mark);
    assert_eq!(story.until_probe().await, Leave::Probe(Some(user("ok"))));
    story.health.passed(&user("ok"), Call::Control, Instant::now());
    assert_eq!(story.fails("x", Fault::Denied, mark), Judgement::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn a_control_that_fails_once_is_asked_again() {
    let mut story = Story::new();
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    story.fails("x", Fault::Unreachable, None);
    for _ in 0..3 {
        assert_eq!(story.until_probe().await, Leave::Probe(Some(user("ok"))));
        let (now, rng) = (Instant::now(), &mut story.rng);
        story
            .health
            .failed(&user("ok"), Call::Control, Fault::Broken, None, now, rng);
    }
}

#[tokio::test(start_paused = true)]
async fn with_many_users_in_trouble_a_read_proves_nothing() {
    let mut story = Story::new();
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    for name in ["a", "b", "c", "d", "e", "f"] {
        story.fails(name, Fault::Broken, None);
    }
    assert_eq!(story.until_probe().await, Leave::Probe(None));
}

#[tokio::test(start_paused = true)]
async fn a_commands_own_fault_ends_its_probe() {
    let mut story = Story::new();
    story.fails("a", Fault::Unreachable, None);
    story.until_probe().await;
    assert_eq!(
        story.fails("a", Fault::Command(Reason::NotFound), None),
        Judgement::Plain
    );
    assert!(!matches!(story.leave(), Leave::ProbeIsOut));
}

#[tokio::test(start_paused = true)]
async fn reads_that_pass_do_not_hide_that_every_write_fails() {
    let mut story = Story::new();
    let mut spent = 0;
    for round in 0..100 {
        let name = format!("user-{}", round % 10);
        if !matches!(story.until_probe().await, Leave::Call | Leave::Probe(_)) {
            panic!("no leave");
        }
        story.health.passed(&user(&name), Call::Read, Instant::now());
        spent += u32::from(story.fails(&name, Fault::Broken, None) == SPENT);
    }
    assert_eq!(spent, 4);
}

#[tokio::test(start_paused = true)]
async fn who_probed_in_vain_lets_others_probe_first() {
    let mut story = Story::new();
    story.fails("a", Fault::Unreachable, None);
    story.until_probe().await;
    story.fails("a", Fault::Unreachable, None);
    let Leave::NotBefore(next) = story.leave() else {
        panic!()
    };
    tokio::time::sleep_until(next).await;
    let leave = story.health.leave(&user("a"), Instant::now(), true);
    assert_eq!(leave, Leave::NotBefore(next + PROBED_BEFORE));
    assert_eq!(story.leave(), Leave::Probe(None));
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_which_some_pass_is_an_outage() {
    let mut story = Story::new();
    let mut spent = 0;
    for n in 0..100 {
        let name = format!("user-{}", n % 20);
        match n % 5 < 3 {
            true => {
                let judgement = story.fails(&name, Fault::Broken, None);
                spent += u32::from(matches!(judgement, Judgement::Spent { .. }));
            }
            false => story.health.passed(&user(&name), Call::Write, Instant::now()),
        }
        if story.health.paused().is_some() {
            break;
        }
    }
    assert_eq!(
        story.health.paused().map(|(cause, ..)| cause),
        Some(Cause::Outage)
    );
    assert!(spent <= 20, "{spent}");
}

#[tokio::test(start_paused = true)]
async fn a_few_users_that_always_fail_among_many_are_no_outage() {
    let mut story = Story::new();
    for n in 0..2000 {
        let name = format!("user-{n}");
        match n % 4 {
            0 => {
                let bad = format!("bad-{}", n % 3);
                let judgement = story.fails(&bad, Fault::Broken, None);
                assert!(matches!(judgement, Judgement::Spent { .. }));
            }
            _ => story.health.passed(&user(&name), Call::Write, Instant::now()),
        }
    }
    assert_eq!(story.health.paused(), None);
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_trouble_is_over_is_no_witness_against_the_provider() {
    let mut story = Story::new();
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    story.fails("vanishing", Fault::Unknown, None);
    for _ in 0..4 {
        story.fails("broken", Fault::Broken, None);
    }
    assert_eq!(story.until_probe().await, Leave::Probe(Some(user("ok"))));
    story.health.passed(&user("ok"), Call::Control, Instant::now());
    for _ in 0..20 {
        let judgement = story.fails("broken", Fault::Broken, None);
        assert!(matches!(judgement, Judgement::Spent { .. }));
    }
}

/// Of the failures of two users, round about, those that stay spent.
async fn spent_by_two(story: &mut Story, controls: &[bool]) -> usize {
    let mut spent = Vec::new();
    while story.health.paused().is_none() {
        for name in ["a", "b"] {
            if let Judgement::Spent { streak } = story.fails(name, Fault::Broken, None) {
                spent.push(streak);
            }
        }
    }
    for passes in controls {
        assert_eq!(story.until_probe().await, Leave::Probe(Some(user("ok"))));
        let (now, rng) = (Instant::now(), &mut story.rng);
        match passes {
            true => story.health.passed(&user("ok"), Call::Control, now),
            false => {
                let read = Call::Control;
                story
                    .health
                    .failed(&user("ok"), read, Fault::Broken, None, now, rng);
            }
        }
    }
    spent.retain(|streak| !story.health.excused(*streak));
    spent.len()
}

#[tokio::test(start_paused = true)]
async fn two_users_that_fail_while_another_is_well_spend_their_attempts() {
    let mut story = Story::new();
    story.health.passed(&user("ok"), Call::Write, Instant::now());
    assert_eq!(spent_by_two(&mut story, &[true]).await, 4);
    assert_eq!(spent_by_two(&mut story, &[true]).await, 4);
    assert_eq!(spent_by_two(&mut story, &[false, true]).await, 0);
}
