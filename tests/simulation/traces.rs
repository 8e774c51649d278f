//! Traces: one for each sampled command, from its publisher to its events.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use usher::broker::topology::{BROKER_DEAD_LETTERS, OUTCOME_LOG};
use usher::broker::{Header, Message};
use usher::contract::notice::BARRIER;
use usher::contract::{Fault, Reason};
use usher::traces::{Context, Kind, Span, Spans, State, TRACEPARENT, TRACESTATE, Traces, Value};
use usher::worker::Merge;

use crate::broker_dead_letters::expired;
use crate::commands::{body, command, id, message};
use crate::provider::{Answer, Scripted};
use crate::world::World;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// In the id of every user, and in every value.
const MARKER: &str = "zqmarker";

#[derive(Default)]
struct Kept(Mutex<Vec<Span>>);

impl Spans for Kept {
    fn ended(&self, span: Span) {
        self.0.lock().unwrap().push(span);
    }
}

impl Kept {
    fn all(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let mut all = self.all();
        all.retain(|span| span.name == name);
        all
    }
}

fn traced(provider: Scripted, sample: f64) -> (World, Arc<Kept>) {
    let (mut world, kept) = (World::new(provider), Arc::new(Kept::default()));
    world.traces = Some(Arc::new(Traces {
        spans: kept.clone(),
        sample,
        clock: world.clock,
    }));
    (world, kept)
}

fn with_context(message: Message, traceparent: &str) -> Message {
    let header = (TRACEPARENT.to_owned(), Header::Text(traceparent.to_owned()));
    Message {
        properties: message.properties.with_headers([header]),
        ..message
    }
}

fn with_state(message: Message, tracestate: &str) -> Message {
    let header = (TRACESTATE.to_owned(), Header::Text(tracestate.to_owned()));
    Message {
        properties: message.properties.with_headers([header]),
        ..message
    }
}

/// The messages of events, in the log's order.
fn events(world: &World) -> Vec<Message> {
    let mut messages = world.broker.messages(OUTCOME_LOG);
    messages.retain(|message| {
        message.routing_key.starts_with("user.") && message.properties.header(BARRIER).is_none()
    });
    messages
}

/// The contexts that the events carry.
fn told(world: &World) -> Vec<Option<String>> {
    events(world)
        .iter()
        .map(|message| message.properties.header_text(TRACEPARENT))
        .collect()
}

fn attribute<'s>(span: &'s Span, name: &str) -> Option<&'s Value> {
    let found = span.attributes.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value)
}

fn text(text: &'static str) -> Option<Value> {
    Some(text.into())
}

#[tokio::test(start_paused = true)]
async fn a_retried_command_is_one_trace_from_its_publisher_to_its_events() {
    let (world, kept) = traced(Scripted::in_turn([Answer::Fail(Fault::Broken)]), 0.0);
    world.publish(&with_context(command(1, MARKER, false), SAMPLED));
    world.run_to_the_end().await;

    let publisher = Context::parse(SAMPLED).unwrap();
    let [process] = &kept.named("process user.update.sim.0")[..] else {
        panic!("{:#?}", kept.all());
    };
    assert_eq!(
        (process.parent, process.parent_is_remote),
        (Some(publisher), true)
    );
    assert_eq!((process.kind, process.failed), (Kind::Consumer, false));
    assert_eq!(attribute(process, "usher.outcome").cloned(), text("SUCCESS"));
    assert_eq!(attribute(process, "usher.attempts"), Some(&Value::Number(2)));
    let command_id = Value::from(id(1).to_string());
    assert_eq!(attribute(process, "messaging.message.id"), Some(&command_id));
    for span in kept.all() {
        assert_eq!(span.context.trace_id, publisher.trace_id);
        assert!(process.started_at <= span.started_at && span.ended_at <= process.ended_at);
        if span.context != process.context {
            assert_eq!(
                (span.parent, span.parent_is_remote),
                (Some(process.context), false)
            );
        }
    }

    let calls = kept.named("write");
    let answers: Vec<_> = calls
        .iter()
        .map(|call| (call.failed, attribute(call, "error.type").cloned()))
        .collect();
    assert_eq!(answers, [(true, text("broken")), (false, None)]);
    let [wait] = &kept.named("wait retry")[..] else {
        panic!("{:#?}", kept.all());
    };
    assert!(calls[0].ended_at <= wait.started_at && wait.ended_at <= calls[1].started_at);
    assert!(wait.started_at < wait.ended_at);
    assert_eq!(attribute(wait, "usher.wait").cloned(), text("retry"));

    let published = kept.named("publish user.outcomes");
    let events: Vec<_> = published
        .iter()
        .map(|span| attribute(span, "usher.event").cloned())
        .collect();
    assert_eq!(events, [text("USER_UPDATE_START"), text("USER_UPDATE_SUCCESS")]);
    let contexts = published.iter().map(|span| Some(span.context.to_string()));
    assert_eq!(told(&world), contexts.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_does_not_sample_is_followed_and_its_context_handed_on() {
    let (world, kept) = traced(Scripted::always(Answer::Ok), 1.0);
    world.publish(&with_context(command(1, "u", false), UNSAMPLED));
    world.run_to_the_end().await;
    assert_eq!(kept.all(), []);
    assert_eq!(
        told(&world),
        [Some(UNSAMPLED.to_owned()), Some(UNSAMPLED.to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn without_traces_the_publishers_context_is_handed_on() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&with_context(command(1, "u", false), SAMPLED));
    world.publish(&command(2, "u", false));
    world.run_to_the_end().await;
    let sampled = Some(SAMPLED.to_owned());
    assert_eq!(told(&world), [sampled.clone(), sampled, None, None]);
}

#[tokio::test(start_paused = true)]
async fn vendors_entries_go_along_with_the_publishers_context_alone() {
    let (world, kept) = traced(Scripted::always(Answer::Ok), 1.0);
    let entries = "vendor=1,other@tenant=2";
    let sampled = with_context(command(1, "a", false), SAMPLED);
    world.publish(&with_state(sampled, entries));
    let unsampled = with_context(command(2, "b", false), UNSAMPLED);
    world.publish(&with_state(unsampled, entries));
    let broken = with_context(command(3, "c", false), SAMPLED);
    world.publish(&with_state(broken, "vendor=1,and a text"));
    // The trace begins with the worker: what is in the header belongs to no context.
    world.publish(&with_state(command(4, "d", false), entries));
    world.run_to_the_end().await;
    for n in 1..=4 {
        let command_id = id(n).to_string();
        let of_command = |message: &Message| message.properties.correlation_id() == Some(&command_id);
        for event in events(&world).into_iter().filter(of_command) {
            let state = event.properties.header_text(TRACESTATE);
            assert_eq!(state.as_deref(), (n <= 2).then_some(entries), "{n}");
            assert!(event.properties.header(TRACEPARENT).is_some(), "{n}");
        }
    }
    let of_spans: Vec<_> = kept.all().into_iter().filter_map(|span| span.state).collect();
    let first = kept.named("process user.update.sim.0")[0].context.trace_id;
    let spans_of_first = kept
        .all()
        .iter()
        .filter(|span| span.context.trace_id == first)
        .count();
    assert!(
        of_spans.len() < spans_of_first,
        "that trace has the broken one's spans, too"
    );
    assert!(of_spans.len() >= 4, "{of_spans:?}");
    assert!(
        of_spans
            .iter()
            .all(|state| Some(state) == State::parse(entries).as_ref())
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_published_again_to_read_the_log_stays_in_its_trace() {
    let (world, _kept) = traced(Scripted::always(Answer::Ok), 0.0);
    world.publish(&with_state(
        with_context(command(1, "u", false), SAMPLED),
        "vendor=1",
    ));
    world.run_to_the_end().await;
    let is_repeat = |message: &Message| message.properties.header(BARRIER).is_some();
    let (repeats, firsts): (Vec<_>, Vec<_>) = world
        .broker
        .messages(OUTCOME_LOG)
        .into_iter()
        .partition(is_repeat);
    assert!(!repeats.is_empty());
    for repeat in repeats {
        let is_first = |first: &&Message| first.properties.message_id() == repeat.properties.message_id();
        let first = firsts.iter().find(is_first).unwrap();
        for name in [TRACEPARENT, TRACESTATE] {
            let header = repeat.properties.header_text(name);
            assert!(header.is_some(), "{name}");
            assert_eq!(header, first.properties.header_text(name));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_broker_dead_lettered_is_traced_to_its_events() {
    let (world, kept) = traced(Scripted::always(Answer::Ok), 0.0);
    world.publish(&with_context(expired(1, "u"), SAMPLED));
    world.publish(&with_context(expired(2, "u"), UNSAMPLED));
    let running = world.start();
    sleep(Duration::from_secs(300)).await;
    running.drain().await;
    let publisher = Context::parse(SAMPLED).unwrap();
    let [process] = &kept.named(&format!("process {BROKER_DEAD_LETTERS}"))[..] else {
        panic!("{:#?}", kept.all());
    };
    assert_eq!(process.parent, Some(publisher));
    assert_eq!(attribute(process, "usher.outcome").cloned(), text("FAIL"));
    assert_eq!(attribute(process, "usher.reason").cloned(), text("expired"));
    let published = kept.named("publish user.outcomes");
    assert_eq!(published.len(), 2, "START and FAIL");
    assert!(published.iter().all(|span| span.parent == Some(process.context)));
    assert_eq!(kept.named("publish user.dead-letters").len(), 1);
    let mut expected: Vec<_> = published.iter().map(|span| span.context.to_string()).collect();
    expected.extend([UNSAMPLED.to_owned(), UNSAMPLED.to_owned()]);
    let told: Vec<_> = told(&world).into_iter().flatten().collect();
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn the_share_decides_for_commands_without_a_context() {
    for (sample, traced_min, traced_max) in [(0.0, 0, 0), (1.0, 400, 400), (0.5, 120, 280)] {
        let (world, kept) = traced(Scripted::always(Answer::Ok), sample);
        for n in 0..400 {
            let command = command(n, &format!("u{n}"), false);
            world.publish(&match n % 2 {
                0 => command,
                _ => with_context(command, "no context"),
            });
        }
        world.run_to_the_end().await;
        let processes = kept.named("process user.update.sim.0");
        assert!(
            (traced_min..=traced_max).contains(&processes.len()),
            "{sample}: {}",
            processes.len()
        );
        assert!(processes.iter().all(|span| span.parent.is_none()));
        let traces: BTreeSet<_> = processes.iter().map(|span| span.context.trace_id).collect();
        assert_eq!(traces.len(), processes.len(), "each is a trace of its own");
    }
}

#[tokio::test(start_paused = true)]
async fn no_span_of_a_dead_letter_has_the_users_id_or_a_value() {
    let rejected = Answer::Fail(Fault::Command(Reason::Rejected));
    let (world, kept) = traced(Scripted::always(rejected), 1.0);
    let mut well = body(1, MARKER, false);
    well["update"]["givenName"] = json!(MARKER);
    world.publish(&message(&well, MARKER, false));
    let mut ill = body(2, MARKER, true);
    ill["update"] = json!({ "phone": MARKER, MARKER: MARKER });
    world.publish(&message(&ill, MARKER, true));
    world.run_to_the_end().await;

    let processes = [
        ("process user.update.sim.0", "rejected"),
        ("process user.update.bulk.sim.0", "invalid"),
    ];
    for (name, reason) in processes {
        let [process] = &kept.named(name)[..] else {
            panic!("{:#?}", kept.all());
        };
        assert!(process.failed);
        assert_eq!(attribute(process, "usher.outcome").cloned(), text("FAIL"));
        assert_eq!(attribute(process, "usher.reason").cloned(), text(reason));
    }
    assert_eq!(kept.named("publish user.dead-letters").len(), 2);
    assert_eq!(kept.named("publish user.outcomes").len(), 4);
    let said = format!("{:?}", kept.all());
    assert!(!said.contains(MARKER), "{said}");
}

#[tokio::test(start_paused = true)]
async fn commands_that_share_a_call_have_a_trace_and_events_of_their_own() {
    let (mut world, kept) = traced(Scripted::always(Answer::Ok), 0.0);
    world.merge = Merge::All;
    let context = |n: u64| format!("00-{n:032x}-00000000000000aa-01");
    for n in 1..=6 {
        world.publish(&with_context(command(n, "u", false), &context(n)));
    }
    world.run_to_the_end().await;
    assert!(world.provider.writes().len() < 6, "they share calls");
    let processes = kept.named("process user.update.sim.0");
    let traces: Vec<_> = processes.iter().map(|span| span.context.trace_id).collect();
    assert_eq!(traces, (1..=6).collect::<Vec<_>>());
    for event in events(&world) {
        let context = event.properties.header_text(TRACEPARENT).unwrap();
        let trace_id = u64::try_from(Context::parse(&context).unwrap().trace_id).unwrap();
        assert_eq!(
            event.properties.correlation_id(),
            Some(id(trace_id).to_string().as_str())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_is_a_trace_of_bounded_length_that_names_the_pause() {
    let (mut world, kept) = traced(Scripted::always(Answer::Fail(Fault::Unreachable)), 1.0);
    // Otherwise each further delivery is a trace of its own.
    world.hold_max = Duration::from_secs(72 * 3600);
    world.publish(&command(1, "u", false));
    let running = world.start();
    sleep(Duration::from_secs(16 * 3600)).await;
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    running.drain().await;
    assert!(!kept.named("wait pause").is_empty(), "{:#?}", kept.all());
    let spans = kept.all().len();
    assert!(spans < 150, "{spans} spans");
    let left_out = |span: &Span| attribute(span, "usher.spans_left_out").is_some();
    assert!(kept.named("process user.update.sim.0").iter().any(left_out));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_handed_back_ends_its_trace_here() {
    let (world, kept) = traced(Scripted::always(Answer::Fail(Fault::Broken)), 1.0);
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    let running = world.start();
    sleep(Duration::from_secs(5)).await;
    running.drain().await;
    let outcomes: Vec<_> = kept
        .named("process user.update.sim.0")
        .iter()
        .map(|span| attribute(span, "usher.outcome").cloned())
        .collect();
    assert_eq!(outcomes, [text("handed_back"), text("handed_back")]);
}
