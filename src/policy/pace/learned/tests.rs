//! The search alone: what a throttled call makes of it, and what workers make of each other's.

use super::*;

const SHARE: f64 = 1.0;

/// One that nobody has slowed down, in use for so many seconds.
fn search(configured: Option<f64>, seconds: f64) -> PaceSearch {
    let mut search = PaceSearch::new(configured, SHARE);
    search.used(Duration::from_secs_f64(seconds));
    search
}

fn throttled_at(configured: f64, seconds: f64) -> PaceSearch {
    let mut search = search(Some(configured), seconds);
    search.throttled(seconds);
    search
}

fn after(search: &mut PaceSearch, seconds: f64) -> f64 {
    search.used(Duration::from_secs_f64(seconds));
    search.ago(0.0)
}

fn learned(slowdowns: u64, pace: f64) -> Learned {
    Learned {
        slowdowns,
        floor: pace,
        plateau: pace,
        best: pace,
        age: 0.0,
    }
}

fn assert_near(pace: f64, expected: f64) {
    assert!((pace / expected - 1.0).abs() < 0.001, "{pace}, not {expected}");
}

#[tokio::test(start_paused = true)]
async fn looking_at_the_pace_changes_nothing_and_time_that_is_not_used_costs_nothing() {
    let mut search = throttled_at(100.0, 50.0);
    search.used(Duration::from_secs(2));
    let before = format!("{search:?}");
    for _ in 0..1000 {
        let now = Instant::now();
        let _ = (search.per_second(now), search.agreed(now), search.why(now));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(format!("{search:?}"), before);
}

#[test]
fn without_evidence_the_pace_doubles_each_second() {
    for (seconds, pace) in [
        (0.0, FIRST),
        (1.0, FIRST * 2.0),
        (5.0, FIRST * 32.0),
        (60.0, MOST),
    ] {
        assert_near(search(None, seconds).ago(0.0), pace);
    }
    let mut found = search(None, 5.0);
    found.throttled(5.0);
    assert_near(found.known.plateau, FIRST * 32.0 * STEP);
}

#[test]
fn a_configured_rate_is_used_at_once_and_never_exceeded() {
    assert_near(search(Some(50.0), 0.0).ago(0.0), 50.0);
    let mut search = throttled_at(50.0, 60.0);
    assert_near(after(&mut search, 1000.0), 50.0);
}

#[test]
fn a_throttled_call_costs_little_after_a_long_time_and_more_after_a_short_one() {
    assert_near(throttled_at(100.0, 60.0).known.plateau, 100.0 * BELOW);
    let at_once = throttled_at(100.0, 0.1);
    assert_near(at_once.known.floor, 100.0 * STEP);
    assert_near(at_once.known.plateau, 84.85);
    // Two seconds in which the provider bore it, and one that was saved up.
    let mut twice = throttled_at(100.0, 60.0);
    twice.used(Duration::from_secs(3));
    twice.throttled(3.0);
    assert_near(twice.known.floor, 97.0 * 0.75);
}

#[test]
fn the_floor_is_held_until_it_is_proven_and_the_plateau_until_more_is_tried() {
    let mut search = throttled_at(100.0, 0.1);
    search.known.best = LEAST;
    assert_near(after(&mut search, PROVEN - 0.1), 70.0);
    assert_near(after(&mut search, 0.2), 84.85);
    assert_near(after(&mut search, HOLD - PROVEN), 84.85);
    assert!(after(&mut search, 4.0) > 84.85);
    // What was not proven on the plateau lies between that and the floor.
    let mut search = throttled_at(100.0, 0.1);
    search.known.best = LEAST;
    search.used(Duration::from_secs_f64(PROVEN + 0.2));
    search.throttled(PROVEN + 0.2);
    assert!(
        search.known.floor >= 70.0 && search.known.plateau < 80.0,
        "{search:?}"
    );
}

#[test]
fn a_far_better_pace_is_tried_soon_and_forgotten_in_the_end() {
    let mut search = search(None, 0.0);
    search.known = Learned {
        best: 100.0,
        ..learned(1, 50.0)
    };
    search.climb = None;
    assert_near(after(&mut search, PROVEN), 50.0);
    assert_near(after(&mut search, DOUBLING), 100.0);
    search.known.best = 50.0 * (FAR_BETTER - 0.01);
    assert_near(search.ago(0.0), 50.0);
    search.known.best = 100.0;
    search.known.age = HALF_FORGOTTEN;
    assert_near(search.best_by_now(), 50.0);
}

#[test]
fn fewer_calls_stretch_the_search_up_to_a_bound() {
    for (pace, scale) in [(100.0, 1.0), (2.5, 1.0), (1.25, 2.0), (0.01, SLOWEST)] {
        let mut search = search(None, 0.0);
        search.known = learned(1, pace);
        assert_near(search.scale(), scale);
    }
}

#[test]
fn the_pace_never_falls_below_the_least() {
    let mut slow = search(Some(100.0), 0.0);
    for _ in 0..100 {
        slow.throttled(0.0);
    }
    assert_near(slow.ago(0.0), LEAST);
    assert_near(search(Some(0.01), 0.0).ago(0.0), 0.01);
    assert_near(slow.least(0.5), LEAST);
}

#[test]
fn workers_that_exchange_notices_agree_on_the_pace_in_any_order() {
    let mut workers = [
        throttled_at(100.0, 60.0),
        throttled_at(100.0, 3.0),
        search(Some(100.0), 9.0),
    ];
    workers[1].used(Duration::from_secs(2));
    for _ in 0..2 {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (0, 2), (2, 1)] {
            let known = workers[from].known();
            workers[to].merge(known);
        }
    }
    assert_eq!(workers[0].known, workers[1].known);
    assert_eq!(workers[0].known, workers[2].known);
    let before = workers[0].known;
    assert!(!workers[0].merge(before), "what is known is no news");
    assert_eq!(workers[0].known, before);
}

#[test]
fn notices_of_others_lower_the_pace_to_a_quarter_at_most() {
    let mut search = search(Some(100.0), 60.0);
    for slowdowns in 1..50 {
        search.merge(learned(slowdowns, 0.001));
        assert_near(search.ago(0.0), 100.0 * OTHERS_LOWEST);
    }
    // The provider's own word settles it.
    search.throttled(0.0);
    search.merge(learned(100, 0.001));
    assert!(search.ago(0.0) < 100.0 * OTHERS_LOWEST * STEP);
}

#[test]
fn notices_of_others_raise_the_pace_no_faster_than_a_search() {
    let mut search = search(None, 0.0);
    search.throttled(0.0);
    let before = search.ago(0.0);
    search.merge(Learned {
        age: 1e9,
        ..learned(7, 1e6)
    });
    assert_near(search.ago(0.0), before);
    assert_near(after(&mut search, 3.0), before * 8.0);
}

#[test]
fn a_count_that_nobody_can_have_seen_is_not_believed() {
    let mut search = search(Some(100.0), 60.0);
    assert!(!search.merge(learned(AHEAD_MAX + 1, 1.0)));
    assert_near(search.ago(0.0), 100.0);
    assert!(search.merge(learned(AHEAD_MAX, 50.0)));
    assert!(!search.merge(learned(1, 1.0)), "it is older than what is known");
    assert_near(search.ago(0.0), 50.0);
}

#[test]
fn after_an_outage_the_pace_comes_back_from_a_tenth_and_a_small_one_at_once() {
    let mut large = search(Some(1000.0), 60.0);
    large.resume_gently();
    assert_near(large.ago(0.0), 100.0);
    assert_near(after(&mut large, 4.0), 1000.0);
    let mut small = search(Some(FIRST), 60.0);
    small.resume_gently();
    assert_near(small.ago(0.0), FIRST);
}

#[test]
fn growth_starts_slowly_and_doubles_in_fifteen_seconds() {
    assert_near(growth(-5.0), 1.0);
    assert!(growth(1.0) < 1.02 && growth(15.0) > 2.0);
}
