//! One story a test: who is answered what, and what follows.

use std::collections::HashMap;

use super::*;
use crate::contract::Reason;

#[path = "tests/trial.rs"]
mod trial;

/// Nobody has passed yet.
const SPENT: Judgement = Judgement::Spent { streak: Some(0) };

struct Story {
    health: Health,
    rng: fastrand::Rng,
    /// The latest probe: the next answer is its answer.
    probe: Option<ProbeId>,
    /// Of each user's one command.
    troubles: HashMap<String, Trouble>,
}

impl Story {
    fn new() -> Self {
        Self {
            health: Health::new(&retry::Config::default(), true),
            rng: fastrand::Rng::with_seed(1),
            probe: None,
            troubles: HashMap::new(),
        }
    }

    fn fails(&mut self, name: &str, fault: Fault) -> Judgement {
        self.fails_at(Call::Write, name, fault)
    }

    fn fails_at(&mut self, call: Call, name: &str, fault: Fault) -> Judgement {
        let trouble = self.troubles.entry(name.to_owned()).or_default();
        let (now, rng) = (Instant::now(), &mut self.rng);
        let call = (call, self.probe);
        self.health.failed(&user(name), call, fault, trouble, now, rng)
    }

    /// Who of these probes.
    fn chosen(&mut self, waiting: &[&str]) -> String {
        let waiting: Vec<_> = waiting.iter().map(|name| user(name)).collect();
        let chosen = self
            .health
            .choose(&waiting.iter().collect::<Vec<_>>(), Instant::now(), &mut self.rng);
        chosen.unwrap().to_string()
    }

    fn passes(&mut self, name: &str, call: Call) {
        self.health.passed(&user(name), call, self.probe, Instant::now());
    }

    fn may_call(&mut self) -> CallDecision {
        let decision = self.health.may_call(Instant::now());
        if let CallDecision::Probe(id, _) = &decision {
            self.probe = Some(*id);
        }
        decision
    }

    /// The latest probe, with this control.
    fn probe(&self, control: Option<UserId>) -> CallDecision {
        CallDecision::Probe(self.probe.unwrap(), control)
    }

    async fn until_probe(&mut self) -> CallDecision {
        while let CallDecision::NotBefore(at) = self.may_call() {
            tokio::time::sleep_until(at).await;
        }
        self.health.probe_ended(self.probe);
        self.may_call()
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_user_that_always_fails_spends_its_attempts_and_pauses_nobody() {
    let mut story = Story::new();
    for _ in 0..20 {
        assert_eq!(story.fails("broken", Fault::Broken), SPENT);
        assert_eq!(story.may_call(), CallDecision::Call);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_several_users_in_a_row_are_an_outage_and_spend_nothing() {
    let mut story = Story::new();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(story.fails(name, Fault::Broken), SPENT);
    }
    assert_eq!(story.fails("e", Fault::Broken), Judgement::Excused);
    assert_eq!(story.fails("a", Fault::Unknown), Judgement::Excused);
    assert!(matches!(story.may_call(), CallDecision::NotBefore(_)));
    assert_eq!(story.health.paused().unwrap().0, Cause::Outage);
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_one_probe_at_a_time_goes_out_at_growing_gaps() {
    let mut story = Story::new();
    story.fails("a", Fault::Unreachable);
    let mut gaps = Vec::new();
    for _ in 0..6 {
        let before = Instant::now();
        assert_eq!(story.until_probe().await, story.probe(None));
        assert_eq!(story.may_call(), CallDecision::ProbeIsOut);
        gaps.push(before.elapsed());
        story.fails("a", Fault::Unreachable);
    }
    assert!(gaps[5] > gaps[0] * 8, "{gaps:?}");
    story.passes("a", Call::Write);
    assert_eq!(story.may_call(), CallDecision::Call);
}

#[tokio::test(start_paused = true)]
async fn answers_of_calls_from_before_the_pause_do_not_lengthen_it() {
    let mut story = Story::new();
    story.fails("a", Fault::Credentials);
    let CallDecision::NotBefore(first) = story.may_call() else {
        panic!()
    };
    for _ in 0..63 {
        story.fails("b", Fault::Credentials);
    }
    assert_eq!(story.may_call(), CallDecision::NotBefore(first));
}

#[tokio::test(start_paused = true)]
async fn a_denied_user_is_forbidden_once_another_passes() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    assert_eq!(story.fails("x", Fault::Denied), Judgement::SetAside);
    assert_eq!(story.may_call(), CallDecision::Call);
    story.passes("x", Call::Read);
    assert_eq!(story.fails("x", Fault::Denied), Judgement::SetAside);
    story.passes("ok", Call::Write);
    assert_eq!(story.fails("x", Fault::Denied), Judgement::RefusedAlone);
}

#[tokio::test(start_paused = true)]
async fn a_user_that_fails_while_others_pass_is_charged_and_pauses_nobody() {
    for fault in [Fault::Broken, Fault::Unknown, Fault::Credentials] {
        let mut story = Story::new();
        for n in 0..100 {
            let name = format!("bad{}", n % 20);
            let judgement = story.fails(&name, fault);
            story.passes("ok", Call::Write);
            if n >= 20 {
                assert_eq!(judgement, Judgement::Spent { streak: None });
            }
        }
        // They are left alone.
        for n in 0..100 {
            let name = format!("bad{}", n % 20);
            assert_eq!(story.fails(&name, fault), Judgement::Spent { streak: None });
            assert_eq!(story.may_call(), CallDecision::Call);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_passes_says_nothing_of_anothers_write() {
    for fault in [Fault::Broken, Fault::Denied, Fault::Credentials] {
        let mut story = Story::new();
        for n in 0..100 {
            story.passes("ok", Call::Read);
            let judgement = story.fails(&format!("u{}", n % 20), fault);
            assert!(
                !matches!(
                    judgement,
                    Judgement::Spent { streak: None } | Judgement::RefusedAlone
                ),
                "{n}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn if_all_users_are_denied_the_credentials_are_at_fault() {
    let mut story = Story::new();
    story.fails("x", Fault::Denied);
    story.fails("y", Fault::Denied);
    assert_eq!(story.health.paused().unwrap().0, Cause::Credentials);
    assert_eq!(story.until_probe().await, story.probe(None));
}

#[tokio::test(start_paused = true)]
async fn a_lone_denied_user_is_checked_against_one_that_passed_before() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    story.fails("x", Fault::Denied);
    story.fails("x", Fault::Denied);
    assert_eq!(story.until_probe().await, story.probe(Some(user("ok"))));
    story.passes("ok", Call::Control);
    assert_eq!(story.fails("x", Fault::Denied), Judgement::RefusedAlone);
}

#[tokio::test(start_paused = true)]
async fn a_control_that_fails_once_is_asked_again() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    story.fails("x", Fault::Unreachable);
    for _ in 0..3 {
        assert_eq!(story.until_probe().await, story.probe(Some(user("ok"))));
        story.fails_at(Call::Control, "ok", Fault::Broken);
    }
}

#[tokio::test(start_paused = true)]
async fn with_many_users_in_trouble_a_read_proves_nothing() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    for name in ["a", "b", "c", "d", "e", "f"] {
        story.fails(name, Fault::Broken);
    }
    assert_eq!(story.until_probe().await, story.probe(Some(user("ok"))));
    story.passes("ok", Call::Control);
    assert_eq!(
        story.health.paused().map(|(cause, ..)| cause),
        Some(Cause::Outage)
    );
    assert_eq!(story.until_probe().await, story.probe(None));
}

#[tokio::test(start_paused = true)]
async fn a_commands_own_fault_ends_its_probe() {
    let mut story = Story::new();
    story.fails("a", Fault::Unreachable);
    story.until_probe().await;
    assert_eq!(
        story.fails("a", Fault::Command(Reason::NotFound)),
        Judgement::Plain
    );
    assert!(!matches!(story.may_call(), CallDecision::ProbeIsOut));
}

#[tokio::test(start_paused = true)]
async fn reads_that_pass_do_not_hide_that_every_write_fails() {
    let mut story = Story::new();
    let mut spent = 0;
    for round in 0..100 {
        let name = format!("user-{}", round % 10);
        if !matches!(
            story.until_probe().await,
            CallDecision::Call | CallDecision::Probe(..)
        ) {
            panic!("no call is allowed");
        }
        story.passes(&name, Call::Read);
        spent += u32::from(story.fails(&name, Fault::Broken) == SPENT);
    }
    assert_eq!(spent, 4);
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_which_some_pass_is_an_outage() {
    let mut story = Story::new();
    let mut spent = 0;
    for n in 0..100 {
        let name = format!("user-{}", n % 20);
        // Another command of the user.
        story.troubles.remove(&name);
        match n % 5 < 3 {
            true => {
                let judgement = story.fails(&name, Fault::Broken);
                spent += u32::from(matches!(judgement, Judgement::Spent { .. }));
            }
            false => story.passes(&name, Call::Write),
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
                let judgement = story.fails(&bad, Fault::Broken);
                assert!(matches!(judgement, Judgement::Spent { .. }));
            }
            _ => story.passes(&name, Call::Write),
        }
    }
    assert_eq!(story.health.paused(), None);
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_trouble_is_over_is_no_witness_against_the_provider() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    story.fails("vanishing", Fault::Unknown);
    for _ in 0..4 {
        story.fails("broken", Fault::Broken);
    }
    assert_eq!(story.until_probe().await, story.probe(Some(user("ok"))));
    story.passes("ok", Call::Control);
    for _ in 0..20 {
        let judgement = story.fails("broken", Fault::Broken);
        assert!(matches!(judgement, Judgement::Spent { .. }));
    }
}

/// Of the failures of two users, round about, those that stay spent.
async fn spent_by_two(story: &mut Story, controls: &[bool]) -> usize {
    let mut spent = Vec::new();
    while story.health.paused().is_none() {
        for name in ["a", "b"] {
            if let Judgement::Spent { streak } = story.fails(name, Fault::Broken) {
                spent.push(streak);
            }
        }
    }
    for passes in controls {
        assert_eq!(story.until_probe().await, story.probe(Some(user("ok"))));
        match passes {
            true => story.passes("ok", Call::Control),
            false => {
                story.fails_at(Call::Control, "ok", Fault::Broken);
            }
        }
    }
    // The next ones come with other commands.
    story.troubles.clear();
    spent.retain(|streak| streak.is_none_or(|streak| !story.health.excused(streak)));
    spent.len()
}

#[tokio::test(start_paused = true)]
async fn two_users_that_fail_while_another_is_well_spend_their_attempts() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    assert_eq!(spent_by_two(&mut story, &[true]).await, 4);
    assert_eq!(spent_by_two(&mut story, &[true]).await, 4);
    assert_eq!(spent_by_two(&mut story, &[false, true]).await, 0);
}

/// Calls in flight, those from before the pause among them, end in any order: with an answer, or dropped.
#[tokio::test(start_paused = true)]
async fn only_its_own_end_ends_a_probe_however_the_calls_interleave() {
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut story = Story::new();
        let mut in_flight: Vec<(Option<ProbeId>, UserId)> = Vec::new();
        let mut out: Option<ProbeId> = None;
        for step in 0..60 {
            tokio::time::advance(Duration::from_millis(rng.u64(0..500))).await;
            let now = Instant::now();
            if rng.bool() {
                let name = user(&format!("u{}", rng.u8(0..8)));
                match story.health.may_call(now) {
                    CallDecision::Call => in_flight.push((None, name)),
                    CallDecision::Probe(id, _) => {
                        assert_eq!(out, None, "seed {seed}, step {step}: two probes are out");
                        out = Some(id);
                        in_flight.push((out, name));
                    }
                    CallDecision::ProbeIsOut => {
                        assert!(out.is_some(), "seed {seed}, step {step}: a lost probe");
                    }
                    CallDecision::NotBefore(_) => {}
                }
                continue;
            }
            if in_flight.is_empty() {
                continue;
            }
            let (probe, name) = in_flight.swap_remove(rng.usize(..in_flight.len()));
            let call = (Call::Write, probe);
            match rng.u8(0..4) {
                0 => story.health.passed(&name, Call::Write, probe, now),
                1..3 => {
                    let fault = *rng
                        .choice(&[Fault::Unreachable, Fault::Credentials, Fault::Broken])
                        .unwrap();
                    story
                        .health
                        .failed(&name, call, fault, &mut Trouble::default(), now, &mut story.rng);
                }
                _ => {}
            }
            story.health.probe_ended(probe);
            if story.health.paused().is_none() || probe == out {
                out = None;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_another_call_does_not_release_a_second_probe() {
    let mut story = Story::new();
    story.fails("a", Fault::Unreachable);
    assert_eq!(story.until_probe().await, story.probe(None));
    let probe = story.probe.take();
    // Calls from before the pause: one is dropped, one fails, one ends with its command's own fault.
    story.health.probe_ended(None);
    story.fails("b", Fault::Unreachable);
    story.fails("c", Fault::Command(Reason::NotFound));
    // And one was the probe of an earlier pause.
    story.health.probe_ended(probe.map(|id| id - 1));
    assert_eq!(story.may_call(), CallDecision::ProbeIsOut);
    story.health.probe_ended(probe);
    assert_ne!(story.may_call(), CallDecision::ProbeIsOut);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_worker_itself_is_named_and_probed_soon() {
    let mut story = Story::new();
    assert_eq!(story.fails("a", Fault::Worker), Judgement::Excused);
    for _ in 0..20 {
        let before = Instant::now();
        assert_eq!(story.health.paused().unwrap().0, Cause::Worker);
        assert_eq!(story.until_probe().await, story.probe(None));
        assert!(before.elapsed() <= OWN_TROUBLE_GAP_MAX);
        story.fails("a", Fault::Worker);
    }
    assert!(matches!(story.until_probe().await, CallDecision::Probe(..)));
    story.passes("a", Call::Write);
    assert_eq!(story.health.paused(), None);
}
