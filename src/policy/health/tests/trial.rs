//! Who probes, and who is charged where nobody else can be tried.

use super::super::trial::WRITES_OUT_MAX;
use super::*;

/// Probes with the chosen one of these, until this time is over: who was charged, and how often others were read.
async fn probes_in_vain(story: &mut Story, waiting: &[&str], for_: Duration) -> (Vec<String>, u32) {
    let end = Instant::now() + for_;
    let (mut charged, mut controls) = (Vec::new(), 0);
    while Instant::now() < end {
        let Some(at) = story.health.next_probe() else {
            break;
        };
        tokio::time::sleep_until(at).await;
        let name = story.chosen(waiting);
        match story.may_call() {
            CallDecision::Probe(_, Some(control)) => {
                controls += 1;
                story.passes(control.as_str(), Call::Control);
            }
            CallDecision::Probe(_, None) => {
                if story.fails(&name, Fault::Broken) == Judgement::Charged {
                    charged.push(name);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    (charged, controls)
}

#[tokio::test(start_paused = true)]
async fn users_that_have_not_failed_probe_first() {
    let mut story = Story::new();
    for name in ["a", "b", "c", "d", "e"] {
        story.fails(name, Fault::Broken);
    }
    let waiting = ["a", "b", "new", "c"];
    assert_eq!(story.chosen(&waiting), "new");
    let mut probed = Vec::new();
    for _ in 0..8 {
        story.until_probe().await;
        probed.push(story.chosen(&waiting));
        let name = probed.last().unwrap().clone();
        story.fails(&name, Fault::Broken);
    }
    assert_eq!(probed, ["new", "a", "b", "c", "a", "b", "new", "c"]);
}

#[tokio::test(start_paused = true)]
async fn without_other_users_one_command_is_charged_after_a_bounded_time() {
    let waiting = ["a", "b", "c", "d", "e", "f"];
    // Others can be read.
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    for name in waiting {
        story.fails(name, Fault::Broken);
    }
    let (charged, controls) = probes_in_vain(&mut story, &waiting, WRITES_OUT_MAX / 3).await;
    assert_eq!((charged.len(), controls > 0), (0, true));
    let (charged, _) = probes_in_vain(&mut story, &waiting, WRITES_OUT_MAX * 2).await;
    assert!(
        charged.len() >= 2 && charged.iter().all(|name| *name == charged[0]),
        "{charged:?}"
    );
    // Nobody can.
    let mut story = Story::new();
    for name in waiting {
        story.fails(name, Fault::Broken);
    }
    let elapsed_max = retry::Config::default().elapsed_max;
    let (charged, controls) = probes_in_vain(&mut story, &waiting, elapsed_max / 3).await;
    assert_eq!((charged.len(), controls), (0, 0));
    let (charged, _) = probes_in_vain(&mut story, &waiting, elapsed_max * 2).await;
    assert!(!charged.is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_other_users_can_be_tried_no_command_is_charged() {
    let mut story = Story::new();
    story.passes("ok", Call::Write);
    for n in 0..100 {
        let names = [format!("a{n}"), "b".to_owned(), "c".to_owned()];
        let names = names.each_ref().map(String::as_str);
        for name in names {
            story.fails(name, Fault::Broken);
        }
        story.until_probe().await;
        let new = format!("new{n}");
        let chosen = story.chosen(&["b", "c", new.as_str()]);
        assert_eq!(chosen, new);
        assert_ne!(story.fails(&chosen, Fault::Broken), Judgement::Charged);
    }
}
