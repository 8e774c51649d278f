//! Tests of the comparison with what a user shows, and of the numbers.

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::sample::Sample;
use super::super::tally::{Applied, Ended};
use super::*;
use crate::contract::{BatchId, Failure, Field, decode};
use crate::provider::{Access, ProviderError, Updated};

/// Shows users as objects of their fields. It shows no phone, and it knows of one coupling: with an e-mail address, the locale
/// has to be `en`.
struct Showing;

#[async_trait]
impl Provider for Showing {
    fn check(&self, _: &UpdateUser) -> Result<(), Failure> {
        Ok(())
    }

    fn reads(&self) -> bool {
        true
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        false
    }

    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        assert!(command.expected_version.is_none());
        let update = &command.update;
        let shown = |(field, value): (Field, Option<&str>)| user.0[field.name()].as_str() == value;
        let seen = |(field, _): &(Field, Option<&str>)| *field != Field::Phone;
        let coupled = update.shared(Field::Email).is_some() && update.shared(Field::Locale).is_some();
        if !update.shared_changes().filter(seen).all(shown) || coupled && user.0["locale"] != "en" {
            return Comparison::Differs;
        }
        match update.phone {
            Some(_) => Comparison::Unreadable,
            None => Comparison::Matches,
        }
    }

    fn is_unchanged(&self, _: &User, _: &User) -> bool {
        false
    }

    async fn read(&self, _: &UserId) -> Result<User, ProviderError> {
        unreachable!()
    }

    async fn update(&self, _: &UpdateUser, _: Option<&User>) -> Result<Updated, ProviderError> {
        unreachable!()
    }

    fn access(&self) -> &dyn Access {
        unreachable!()
    }
}

fn asked(updates: &[Value]) -> Vec<(UserId, Asked)> {
    let batch = BatchId::parse("m-1").unwrap();
    let mut sample = Sample::new(&batch, Amount::Share(1.0), true);
    for (n, update) in (1..).zip(updates) {
        let body = json!({
            "id": Uuid::from_u128(n), "provider": "p", "userId": "u1", "update": update, "expectedVersion": "7",
        });
        let ended = Ended {
            applied: Applied::Yes,
            redriven: false,
        };
        let command = decode(&serde_json::to_vec(&body).unwrap()).unwrap();
        sample.take(command, ended).unwrap();
    }
    sample.into_users()
}

#[test]
fn the_fields_that_differ_are_named_with_the_command_that_asked_for_them() {
    let (email, both) = (
        json!({ "email": "a@b.example" }),
        json!({ "email": "a@b.example", "nickname": "A" }),
    );
    let phone = json!({ "phone": "+61412345678", "nickname": "A" });
    let coupled = json!({ "email": "a@b.example", "locale": "de" });
    let cleared = json!({ "nickname": null });
    for (updates, shown, differing, untold) in [
        (
            vec![&both],
            json!({ "email": "a@b.example", "nickname": "A" }),
            vec![],
            vec![],
        ),
        (
            vec![&both],
            json!({ "email": "a@b.example" }),
            vec![(1, vec!["nickname"])],
            vec![],
        ),
        (
            vec![&both, &cleared],
            json!({ "email": "a@b.example" }),
            vec![],
            vec![],
        ),
        (
            vec![&both, &email],
            json!({}),
            vec![(1, vec!["nickname"]), (2, vec!["email"])],
            vec![],
        ),
        (vec![&phone], json!({ "nickname": "A" }), vec![], vec!["phone"]),
        (
            vec![&phone],
            json!({ "nickname": "B" }),
            vec![(1, vec!["nickname"])],
            vec!["phone"],
        ),
        (
            vec![&coupled],
            json!({ "email": "a@b.example", "locale": "de" }),
            vec![(1, vec!["email", "locale"])],
            vec![],
        ),
    ] {
        let users = asked(&updates.iter().map(|update| (*update).clone()).collect::<Vec<_>>());
        let mut compared = compare(&users[0].1, &Showing, &User(shown.clone()));
        compared.differing.sort_unstable();
        let differing: Vec<_> = differing
            .into_iter()
            .map(|(n, names)| (Uuid::from_u128(n), names))
            .collect();
        assert_eq!(compared, Compared { differing, untold }, "{updates:?} {shown}");
    }
}

#[test]
fn what_was_found_is_counted_by_user_and_by_field_and_a_read_that_failed_is_not_as_asked() {
    let users = asked(&[json!({ "nickname": "A" })]);
    let (user_id, last) = (&users[0].0, users[0].1.last);
    let mut verified = Verified::new(Amount::Share(0.1), &users);
    verified.users = 5;
    let compared = |differing: Vec<(CommandId, Vec<&'static str>)>, untold| {
        Found::Compared(Compared { differing, untold })
    };
    verified.add(user_id, last, compared(vec![], vec![]));
    assert!(verified.is_as_asked());
    verified.add(user_id, last, compared(vec![], vec!["phone"]));
    assert!(verified.is_as_asked());
    let two = vec![(last, vec!["email"]), (Uuid::from_u128(9), vec!["nickname"])];
    verified.add(user_id, last, compared(two, vec!["phone"]));
    verified.finish(Amount::Share(0.1));
    assert!(!verified.is_as_asked() && !verified.complete);
    verified.add(user_id, last, Found::Gone);
    verified.add(user_id, last, Found::Unread("it fails".into()));
    verified.finish(Amount::Share(0.1));
    assert!(verified.complete);
    let told = serde_json::to_value(&verified).unwrap();
    assert_eq!(
        (
            &told["asAsked"],
            &told["untold"],
            &told["different"],
            &told["gone"],
            &told["unread"]
        ),
        (&json!(1), &json!(1), &json!(1), &json!(1), &json!(1))
    );
    assert_eq!(
        told["fields"],
        json!({
            "email": { "different": 1, "untold": 0 }, "nickname": { "different": 1, "untold": 0 },
            "phone": { "different": 0, "untold": 2 },
        })
    );
    let whats: Vec<_> = verified.rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(whats, ["different", "different", "gone", "unread"]);
    for only in [Found::Gone, Found::Unread("it fails".into())] {
        let mut verified = Verified::new(Amount::Users(1), &users);
        verified.add(user_id, last, only);
        assert!(!verified.is_as_asked());
    }
}

#[test]
fn the_interval_is_wilsons_and_all_users_have_none() {
    for (some, all, least, most) in [
        (0, 100, 0.0, 0.036_99),
        (10, 100, 0.055_23, 0.174_37),
        (5, 5, 0.565_5, 1.0),
    ] {
        let of = Interval::of(some, all);
        let near = |a: f64, b: f64| (a - b).abs() < 0.000_1;
        assert!(
            near(of.least, least) && near(of.most, most),
            "{some}/{all}: {of:?}"
        );
    }
    let users = asked(&[json!({ "nickname": "A" })]);
    for (amount, has) in [(Amount::Share(1.0), false), (Amount::Share(0.5), true)] {
        let mut verified = Verified::new(amount, &users);
        verified.add(&users[0].0, users[0].1.last, Found::Compared(Compared::default()));
        verified.finish(amount);
        assert_eq!(verified.share.is_some(), has);
    }
}
