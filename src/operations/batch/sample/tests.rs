//! Tests of the draw, and of the last value of each field.

use serde_json::json;

use super::*;
use crate::contract::decode;

const OK: Ended = Ended {
    applied: Applied::Yes,
    redriven: false,
};
const REDRIVEN: Ended = Ended {
    applied: Applied::Yes,
    redriven: true,
};
const PERHAPS: Ended = Ended {
    applied: Applied::Perhaps,
    redriven: false,
};
const NOT: Ended = Ended {
    applied: Applied::No,
    redriven: false,
};

fn batch() -> BatchId {
    BatchId::parse("m-1").unwrap()
}

fn command(n: u128, user: &str, fields: &[(&str, &str)]) -> UpdateUser {
    let update: serde_json::Map<_, _> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let body = json!({ "id": Uuid::from_u128(n), "provider": "p", "userId": user, "update": update });
    decode(&serde_json::to_vec(&body).unwrap()).unwrap()
}

fn drawn(amount: Amount, users: impl Iterator<Item = u32>) -> Vec<UserId> {
    let mut sample = Sample::new(&batch(), amount, true);
    for n in users {
        let command = command(u128::from(n), &format!("u{n}"), &[("nickname", "x")]);
        sample.take(command, OK).unwrap();
    }
    sample
        .into_users()
        .into_iter()
        .map(|(user_id, _)| user_id)
        .collect()
}

/// The fields that are known, as `<command>:<names>`, and those that are not.
fn asked(merges: bool, commands: &[(u128, &[&str], Ended)]) -> (Vec<String>, Vec<&'static str>) {
    let mut sample = Sample::new(&batch(), Amount::Share(1.0), merges);
    for (n, fields, ended) in commands {
        let fields: Vec<_> = fields.iter().map(|name| (*name, "x")).collect();
        sample.take(command(*n, "u1", &fields), *ended).unwrap();
    }
    let users = sample.into_users();
    let Some((_, asked)) = users.first() else {
        return (Vec::new(), Vec::new());
    };
    let (known, unclear) = asked.fields();
    let mut known: Vec<_> = known
        .iter()
        .map(|(command, names)| format!("{}:{}", command.id.as_u128(), names.join(",")))
        .collect();
    known.sort_unstable();
    (known, unclear)
}

#[test]
fn amounts_are_a_share_above_nothing_or_a_number_that_is_held_in_memory() {
    for (text, expected) in [
        ("1%", Amount::Share(0.01)),
        ("0.5 %", Amount::Share(0.005)),
        ("100%", Amount::Share(1.0)),
        ("500", Amount::Users(500)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for text in ["", "0", "0%", "101%", "-1%", "NaN%", "1.5", "100001", "all", "%"] {
        assert_eq!(text.parse::<Amount>(), Err(EXPECTED), "{text}");
    }
    assert_eq!(Amount::Share(0.005).to_string(), "0.5 % of the users");
    assert!(EXPECTED.contains(&USERS_MAX.to_string()));
}

#[test]
fn the_same_users_are_drawn_each_time_in_whatever_order_and_about_as_many_as_asked() {
    let share = drawn(Amount::Share(0.1), 0..2000);
    assert!((150..250).contains(&share.len()), "{}", share.len());
    assert_eq!(drawn(Amount::Share(0.1), (0..2000).rev()), share);
    let some = drawn(Amount::Users(30), 0..2000);
    assert_eq!(some, share[..30]);
    assert_eq!(drawn(Amount::Users(30), (0..2000).rev().chain(0..2000)), some);
    assert_eq!(drawn(Amount::Users(30), 0..10).len(), 10);
    assert_eq!(drawn(Amount::Share(1.0), 0..500).len(), 500);
    // Published: the same draw in each version.
    assert_eq!(
        drawn(Amount::Users(3), 0..2000)
            .iter()
            .map(UserId::as_str)
            .collect::<Vec<_>>(),
        ["u634", "u998", "u788"]
    );
}

#[test]
fn a_sample_beyond_the_bound_is_refused() {
    let mut sample = Sample::new(&batch(), Amount::Share(1.0), true);
    sample.users_max = 2;
    for n in 0..2 {
        sample
            .take(command(n, &format!("u{n}"), &[("nickname", "x")]), OK)
            .unwrap();
        sample
            .take(command(n, &format!("u{n}"), &[("nickname", "y")]), OK)
            .unwrap();
    }
    assert_eq!(
        sample.take(command(9, "u9", &[("nickname", "x")]), OK),
        Err(TooMany)
    );
}

#[test]
fn the_last_value_of_each_field_counts_and_what_failed_before_its_write_does_not() {
    let (given, both, name) = (
        &["givenName"][..],
        &["givenName", "nickname"][..],
        &["nickname"][..],
    );
    let known = |known: &[&str]| known.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (commands, expected, unclear) in [
        (&[(1, both, OK)][..], &["1:givenName,nickname"][..], &[][..]),
        (
            &[(1, both, OK), (2, given, OK)],
            &["1:nickname", "2:givenName"],
            &[],
        ),
        (&[(1, both, OK), (2, given, NOT)], &["1:givenName,nickname"], &[]),
        (&[(1, given, NOT)], &[], &[]),
        // It may have been applied, and whatever follows overtakes it.
        (
            &[(1, both, OK), (2, given, PERHAPS)],
            &["1:nickname"],
            &["givenName"],
        ),
        (
            &[(1, both, OK), (2, given, PERHAPS), (3, given, OK)],
            &["1:nickname", "3:givenName"],
            &[],
        ),
        (&[(1, given, PERHAPS), (2, given, OK)], &["2:givenName"], &[]),
        // It ran again, before or after what follows.
        (
            &[(1, both, REDRIVEN), (2, given, OK)],
            &["1:nickname"],
            &["givenName"],
        ),
        (&[(1, given, OK), (2, given, REDRIVEN)], &["2:givenName"], &[]),
        (
            &[(1, both, REDRIVEN), (2, given, OK), (3, both, OK)],
            &[],
            &["givenName", "nickname"],
        ),
        // The same id again is the same command again.
        (&[(1, name, OK), (1, name, OK)], &["1:nickname"], &[]),
    ] {
        assert_eq!(
            asked(true, commands),
            (known(expected), unclear.to_vec()),
            "{commands:?}"
        );
    }
}

#[test]
fn where_updates_don_t_add_up_the_last_command_alone_counts() {
    let (given, name) = (&["givenName"][..], &["nickname"][..]);
    let last = vec!["2:nickname".to_owned()];
    assert_eq!(
        asked(false, &[(1, given, OK), (2, name, OK)]),
        (last.clone(), vec![])
    );
    assert_eq!(
        asked(false, &[(1, given, OK), (2, name, REDRIVEN)]),
        (last, vec![])
    );
    let unclear = (Vec::new(), vec!["nickname"]);
    assert_eq!(asked(false, &[(1, given, REDRIVEN), (2, name, OK)]), unclear);
    assert_eq!(asked(false, &[(1, given, OK), (2, name, PERHAPS)]), unclear);
}
