//! The course alone: what a throttled call makes of it, and what workers make of each other's.

use super::*;

const SHARE: f64 = 1.0;

/// One that nobody has slowed down, in use for so many seconds.
fn course(configured: Option<f64>, seconds: f64) -> Course {
    let mut course = Course::new(configured, SHARE);
    course.used(Duration::from_secs_f64(seconds));
    course
}

fn throttled_at(configured: f64, seconds: f64) -> Course {
    let mut course = course(Some(configured), seconds);
    course.throttled(seconds);
    course
}

fn after(course: &mut Course, seconds: f64) -> f64 {
    course.used(Duration::from_secs_f64(seconds));
    course.ago(0.0)
}

fn heard(slowdowns: u64, pace: f64) -> Learned {
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
    let mut course = throttled_at(100.0, 50.0);
    course.used(Duration::from_secs(2));
    let before = format!("{course:?}");
    for _ in 0..1000 {
        let now = Instant::now();
        let _ = (course.per_second(now), course.agreed(now), course.why(now));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(format!("{course:?}"), before);
}

#[test]
fn who_knows_nothing_doubles_the_pace_each_second_from_the_first() {
    for (seconds, pace) in [
        (0.0, FIRST),
        (1.0, FIRST * 2.0),
        (5.0, FIRST * 32.0),
        (60.0, MOST),
    ] {
        assert_near(course(None, seconds).ago(0.0), pace);
    }
    let mut found = course(None, 5.0);
    found.throttled(5.0);
    assert_near(found.known.plateau, FIRST * 32.0 * STEP);
}

#[test]
fn a_configured_rate_is_used_at_once_and_never_exceeded() {
    assert_near(course(Some(50.0), 0.0).ago(0.0), 50.0);
    let mut course = throttled_at(50.0, 60.0);
    assert_near(after(&mut course, 1000.0), 50.0);
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
    let mut course = throttled_at(100.0, 0.1);
    course.known.best = LEAST;
    assert_near(after(&mut course, PROVEN - 0.1), 70.0);
    assert_near(after(&mut course, 0.2), 84.85);
    assert_near(after(&mut course, HOLD - PROVEN), 84.85);
    assert!(after(&mut course, 4.0) > 84.85);
    // What was not proven on the plateau lies between that and the floor.
    let mut course = throttled_at(100.0, 0.1);
    course.known.best = LEAST;
    course.used(Duration::from_secs_f64(PROVEN + 0.2));
    course.throttled(PROVEN + 0.2);
    assert!(
        course.known.floor >= 70.0 && course.known.plateau < 80.0,
        "{course:?}"
    );
}

#[test]
fn a_far_better_pace_is_tried_soon_and_forgotten_in_the_end() {
    let mut course = course(None, 0.0);
    course.known = Learned {
        best: 100.0,
        ..heard(1, 50.0)
    };
    course.climb = None;
    assert_near(after(&mut course, PROVEN), 50.0);
    assert_near(after(&mut course, DOUBLING), 100.0);
    course.known.best = 50.0 * (FAR_BETTER - 0.01);
    assert_near(course.ago(0.0), 50.0);
    course.known.best = 100.0;
    course.known.age = HALF_FORGOTTEN;
    assert_near(course.best_by_now(), 50.0);
}

#[test]
fn the_fewer_calls_the_longer_a_course_but_not_without_end() {
    for (pace, scale) in [(100.0, 1.0), (2.5, 1.0), (1.25, 2.0), (0.01, SLOWEST)] {
        let mut course = course(None, 0.0);
        course.known = heard(1, pace);
        assert_near(course.scale(), scale);
    }
}

#[test]
fn the_pace_never_falls_below_the_least() {
    let mut slow = course(Some(100.0), 0.0);
    for _ in 0..100 {
        slow.throttled(0.0);
    }
    assert_near(slow.ago(0.0), LEAST);
    assert_near(course(Some(0.01), 0.0).ago(0.0), 0.01);
    assert_near(slow.least(0.5), LEAST);
}

#[test]
fn workers_that_hear_each_other_come_to_the_same_pace_whatever_the_order() {
    let mut workers = [
        throttled_at(100.0, 60.0),
        throttled_at(100.0, 3.0),
        course(Some(100.0), 9.0),
    ];
    workers[1].used(Duration::from_secs(2));
    for _ in 0..2 {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (0, 2), (2, 1)] {
            let known = workers[from].known();
            workers[to].hear(known);
        }
    }
    assert_eq!(workers[0].known, workers[1].known);
    assert_eq!(workers[0].known, workers[2].known);
    let before = workers[0].known;
    assert!(!workers[0].hear(before), "what is known is no news");
    assert_eq!(workers[0].known, before);
}

#[test]
fn a_fellows_word_lowers_the_pace_to_a_quarter_at_most_however_often_it_comes() {
    let mut course = course(Some(100.0), 60.0);
    for slowdowns in 1..50 {
        course.hear(heard(slowdowns, 0.001));
        assert_near(course.ago(0.0), 100.0 * HEARD);
    }
    // The provider's own word settles it.
    course.throttled(0.0);
    course.hear(heard(100, 0.001));
    assert!(course.ago(0.0) < 100.0 * HEARD * STEP);
}

#[test]
fn a_fellows_word_raises_the_pace_no_faster_than_a_search() {
    let mut course = course(None, 0.0);
    course.throttled(0.0);
    let before = course.ago(0.0);
    course.hear(Learned {
        age: 1e9,
        ..heard(7, 1e6)
    });
    assert_near(course.ago(0.0), before);
    assert_near(after(&mut course, 3.0), before * 8.0);
}

#[test]
fn a_count_that_nobody_can_have_seen_is_not_believed() {
    let mut course = course(Some(100.0), 60.0);
    assert!(!course.hear(heard(AHEAD_MAX + 1, 1.0)));
    assert_near(course.ago(0.0), 100.0);
    assert!(course.hear(heard(AHEAD_MAX, 50.0)));
    assert!(!course.hear(heard(1, 1.0)), "it is older than what is known");
    assert_near(course.ago(0.0), 50.0);
}

#[test]
fn after_an_outage_the_pace_comes_back_from_a_tenth_and_a_small_one_at_once() {
    let mut large = course(Some(1000.0), 60.0);
    large.resume_gently();
    assert_near(large.ago(0.0), 100.0);
    assert_near(after(&mut large, 4.0), 1000.0);
    let mut small = course(Some(FIRST), 60.0);
    small.resume_gently();
    assert_near(small.ago(0.0), FIRST);
}

#[test]
fn growth_is_gentle_first_and_doubles_in_a_quarter_of_a_minute() {
    assert_near(growth(-5.0), 1.0);
    assert!(growth(1.0) < 1.02 && growth(15.0) > 2.0);
}
