//! Each reason that ends a command before its first call, and what the dead letter says.

use serde_json::{Value, json};
use usher::broker::{Header, Message};
use usher::contract::BODY_BYTES_MAX;
use usher::contract::event::EventBody;

use crate::commands::{body, command, message, raw};
use crate::provider::{Answer, Scripted};
use crate::world::{World, command_id, outcomes};

/// Publishes one message, and returns the world after it is settled.
async fn world_after(message: &Message) -> World {
    let provider = Scripted::always(Answer::Ok);
    let world = World::new(provider.clone());
    world.publish(message);
    world.run_to_the_end().await;
    assert!(provider.calls().is_empty(), "a refused command calls nobody");
    world
}

#[track_caller]
fn refused(world: &World, reason: &str, pointer: &str) {
    assert_eq!(outcomes(&world.events()), [format!("{reason} 0")]);
    let EventBody::Fail(failed) = &world.events()[1].body else {
        panic!("no FAIL")
    };
    assert_eq!(failed.error.pointer.as_deref().unwrap_or_default(), pointer);
    let dead_letter = &world.dead_letters()[0];
    assert_eq!(
        dead_letter.properties.header("x-usher-reason"),
        Some(Header::Text(reason.into()))
    );
    assert_eq!(dead_letter.routing_key, format!("sim.{reason}"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_json_is_undecodable_and_identified_by_its_message_id() {
    let world = world_after(&raw(b"{nope".to_vec(), "message-7", "u", false)).await;
    refused(&world, "undecodable", "");
    assert!(
        world
            .events()
            .iter()
            .all(|event| command_id(event) == "message-7")
    );
    assert_eq!(world.dead_letters()[0].body, &b"{nope"[..]);
}

#[tokio::test(start_paused = true)]
async fn a_command_with_a_bad_value_is_invalid_at_its_pointer() {
    let mut bad = body(1, "u", false);
    bad["update"]["phone"] = json!("0412 345 678");
    let world = world_after(&message(&bad, "u", false)).await;
    refused(&world, "invalid", "/update/phone");
    assert_eq!(command_id(&world.events()[0]), bad["id"].as_str().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_command_under_another_users_routing_key_is_invalid() {
    let world = world_after(&message(&body(1, "u", false), "v", false)).await;
    refused(&world, "invalid", "/userId");
}

#[tokio::test(start_paused = true)]
async fn a_command_for_another_provider_is_invalid() {
    let mut other = body(1, "u", false);
    other["provider"] = json!("other");
    refused(
        &world_after(&message(&other, "u", false)).await,
        "invalid",
        "/provider",
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_that_the_provider_cannot_take_is_refused_by_name() {
    let mut locale = body(1, "u", false);
    locale["update"]["locale"] = json!("de");
    refused(
        &world_after(&message(&locale, "u", false)).await,
        "unsupported_field",
        "/update/locale",
    );
}

#[tokio::test(start_paused = true)]
async fn codes_without_a_place_to_go_are_invalid() {
    let mut codes = body(1, "u", false);
    codes["update"] =
        json!({ "email": "a@b.example", "zitadel": { "emailVerification": { "returnCode": {} } } });
    refused(
        &world_after(&message(&codes, "u", false)).await,
        "invalid",
        "/update/zitadel",
    );
}

/// Whoever publishes would have codes sent to where others read them, or in a worker's way.
#[tokio::test(start_paused = true)]
async fn codes_are_never_sent_to_queues_of_usher_or_the_broker() {
    let mut codes = body(1, "u", false);
    codes["update"] =
        json!({ "email": "a@b.example", "zitadel": { "emailVerification": { "returnCode": {} } } });
    for (queue, refuses) in [
        ("user.outcomes.log", true),
        ("user.update.sim.0", true),
        ("usher.lease.sim.0", true),
        ("amq.topic", true),
        ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", false),
        ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM", false),
        ("replies.app", false),
    ] {
        let mut command = message(&codes, "u", false);
        command.properties = command.properties.with_reply_to(queue);
        let world = World::new(Scripted::always(Answer::Ok));
        world.publish(&command);
        world.run_to_the_end().await;
        let reasons: Vec<_> = world
            .dead_letters()
            .iter()
            .map(|letter| letter.properties.header_text("x-usher-reason").unwrap())
            .collect();
        assert_eq!(reasons == ["invalid"], refuses, "{queue}: {reasons:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_ceiling_is_oversized() {
    let large = raw(vec![b' '; BODY_BYTES_MAX + 1], "m", "u", false);
    refused(&world_after(&large).await, "oversized", "");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_keeps_the_commands_body_and_properties_and_adds_where_it_came_from() {
    let mut bad = command(1, "u", true);
    bad.body = json!({ "id": "no" }).to_string().into_bytes().into();
    bad.properties = bad
        .properties
        .with_correlation_id("trace-1")
        .with_headers([("tenant".to_owned(), Header::Text("t1".into()))]);
    let world = world_after(&bad).await;
    let dead_letter = &world.dead_letters()[0];
    assert_eq!(dead_letter.body, bad.body);
    assert_eq!(dead_letter.properties.correlation_id(), Some("trace-1"));
    let text = |name: &str| dead_letter.properties.header_text(name).unwrap();
    assert_eq!(text("tenant"), "t1");
    assert_eq!(text("x-usher-exchange"), "user.commands.bulk");
    assert_eq!(text("x-usher-routing-key"), "sim.u");
    assert!(text("x-usher-dead-at").starts_with("2026-11-21T10:00:0"));
    assert!(
        text("x-usher-detail").starts_with("/id: "),
        "{}",
        text("x-usher-detail")
    );
    assert_eq!(
        dead_letter.properties.header("x-usher-attempts"),
        Some(Header::Number(0))
    );
    assert_eq!(
        dead_letter.properties.header("x-usher-redrives"),
        Some(Header::Number(0))
    );
}

#[tokio::test(start_paused = true)]
async fn events_and_dead_letter_headers_hold_no_value() {
    let world = World::new(Scripted::always(Answer::Ok));
    let mut good = body(1, "u", false);
    good["update"] = json!({ "email": "marker@example.com", "givenName": "Marker" });
    world.publish(&message(&good, "u", false));
    let mut bad = good.clone();
    bad["update"]["phone"] = json!("Marker");
    bad["update"]["marker@key"] = json!("Marker");
    world.publish(&message(&bad, "u", false));
    world.run_to_the_end().await;
    for event in world.events() {
        let text = serde_json::to_value(&event)
            .map(|json: Value| json.to_string())
            .unwrap();
        assert!(!text.to_lowercase().contains("marker"), "{text}");
    }
    let headers = format!("{:?}", world.dead_letters()[0].properties.amqp().headers());
    assert!(!headers.to_lowercase().contains("marker"), "{headers}");
}
