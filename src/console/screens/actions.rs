//! What a viewer may do on a screen, as forms; or why not.

use jiff::Timestamp;
use uuid::Uuid;

use super::Ask;
use crate::console::address::encoded;
use crate::console::block::{Action, Block, Cell, Field, Mood, Table};
use crate::console::page::{Again, Shown};
use crate::contract::BatchState;
use crate::contract::lifecycle::OperationKind;
use crate::operations::dead_letters::Filter;
use crate::operations::operation::{Options, Plans, State};

/// The word for an order without an end.
pub const UNTIL_LIFTED: &str = "until lifted";
const SPANS: [&str; 5] = [UNTIL_LIFTED, "15m", "1h", "4h", "12h"];

/// The word for a pause of bulk traffic alone.
pub const BULK_ALONE: &str = "bulk traffic";

fn action(path: impl Into<String>, label: &str) -> Action {
    Action {
        path: path.into(),
        label: label.to_owned(),
        hidden: Vec::new(),
        fields: Vec::new(),
        is_final: false,
    }
}

/// The forms, for those who may act.
pub fn for_operators(ask: Ask<'_>, actions: Vec<Action>) -> Option<Block> {
    match (ask.viewer.may_act, actions.is_empty()) {
        (_, true) => None,
        (true, false) => Some(Block::Actions {
            token: ask.viewer.form_token.clone(),
            actions,
        }),
        (false, false) => {
            let named: Vec<_> = actions.iter().map(|action| action.label.as_str()).collect();
            let text = format!("{}: only with the role operator.", named.join(", "));
            Some(Block::note(Mood::Unknown, text))
        }
    }
}

/// On all dead letters that a filter chooses: first what it would do.
pub fn on_letters(ask: Ask<'_>, filter: &Filter, chosen: u64) -> Vec<Block> {
    if chosen == 0 {
        return Vec::new();
    }
    let of_all = match filter.is_empty() {
        true => "all",
        false => "these",
    };
    let rest = ask.query.without("page").without("live").without("fresh").text();
    let to = |what: &str, path: &str| action(format!("{path}{rest}"), &format!("{what} {of_all} …"));
    let changes = vec![to("Redrive", "/act/redrive"), to("Discard", "/act/discard")];
    let export = action(
        format!("/act/export{rest}"),
        "Export with values (told in the audit log)",
    );
    let export = ask.viewer.may_reveal.then(|| Block::Actions {
        token: ask.viewer.form_token.clone(),
        actions: vec![export],
    });
    for_operators(ask, changes).into_iter().chain(export).collect()
}

pub fn on_letter(ask: Ask<'_>, id: &str) -> Vec<Block> {
    let id = encoded(id);
    let actions = vec![
        action(format!("/act/redrive?command={id}"), "Redrive …"),
        action(format!("/act/discard?command={id}"), "Discard …"),
    ];
    let mut blocks: Vec<_> = for_operators(ask, actions).into_iter().collect();
    blocks.push(match ask.viewer.may_reveal {
        true => Block::Actions {
            token: ask.viewer.form_token.clone(),
            actions: vec![action(
                format!("/act/reveal?command={id}"),
                "Reveal the values (told in the audit log)",
            )],
        },
        false => Block::note(Mood::Unknown, "Values: only with the role auditor."),
    });
    blocks
}

pub fn on_operation(ask: Ask<'_>, id: Uuid, state: State) -> Option<Block> {
    let actions = match state {
        State::Planned | State::Interrupted => vec![
            action(format!("/act/resume-operation/{id}"), "Resume"),
            action(
                format!("/act/abort-operation/{id}"),
                "Abort: give back what is not sent",
            ),
        ],
        State::Running => vec![action(
            format!("/act/stop-operation/{id}"),
            "Stop, if this console runs it",
        )],
        State::Open | State::Done | State::Aborted | State::Stopped => Vec::new(),
    };
    for_operators(ask, actions)
}

pub fn on_batch(ask: Ask<'_>, id: &str, ordered: Option<BatchState>) -> Option<Block> {
    let id = encoded(id);
    let pause = action(format!("/act/batch/pause?batch={id}"), "Pause the batch");
    let resume = action(format!("/act/batch/resume?batch={id}"), "Resume the batch");
    let cancel = action(format!("/act/batch/cancel?batch={id}"), "Cancel the batch …");
    let actions = match ordered {
        None => vec![pause, cancel],
        Some(BatchState::Paused) => vec![resume, cancel],
        Some(BatchState::Cancelled) => vec![resume],
    };
    for_operators(ask, actions)
}

/// Orders for all workers.
pub fn on_fleet(ask: Ask<'_>, is_paused: bool, is_pinned: bool) -> Option<Block> {
    let until = || Field {
        words: SPANS.to_vec(),
        ..Field::new("until", "For", "")
    };
    let mut pause = action("/act/pause", "Pause");
    pause.fields = vec![
        Field::new("reason", "Reason", "such as maintenance"),
        Field {
            words: vec!["all calls", BULK_ALONE],
            ..Field::new("what", "What", "")
        },
        until(),
    ];
    let resume = match is_paused {
        true => action("/act/resume", "Resume"),
        false => action("/act/resume", "Try again now"),
    };
    let mut pin = action("/act/pin", "Pin the pace");
    pin.fields = vec![Field::new("rate", "Rate", "20/s or 600/min"), until()];
    let mut actions = vec![pause, resume, pin];
    if is_pinned {
        actions.push(action("/act/unpin", "Unpin the pace"));
    }
    for_operators(ask, actions)
}

fn confirming(blocks: Vec<Block>) -> Shown {
    Shown {
        again: Some(Again::Never),
        ..blocks.into()
    }
}

/// What a redrive or a discard would do, and the form that does it.
pub fn plan(ask: Ask<'_>, kind: OperationKind, plans: &Plans) -> Shown {
    let done = match kind {
        OperationKind::Redrive => "sent again",
        _ => "removed for good",
    };
    let count: u64 = plans.plans.iter().map(|plan| plan.count).sum();
    let mut table = Table::new(
        "plan",
        "The plan",
        &["Provider", "Dead letters", "Users", "Of what"],
    )
    .empty("No dead letter is chosen: nothing would be done.");
    for plan in &plans.plans {
        let reasons = plan
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"));
        let batches = plan
            .batches
            .iter()
            .map(|(batch, count)| format!("{count} of batch {batch}"));
        let parts: Vec<_> = reasons.chain(batches).collect();
        table.rows.push(vec![
            Cell::text(plan.provider.as_str()),
            Cell::Number(plan.count),
            Cell::Number(plan.users),
            Cell::text(parts.join(", ")),
        ]);
    }
    let mut blocks = vec![
        Block::Verdict {
            mood: Mood::Waits,
            text: format!(
                "{} would be {done}. Nothing is changed yet.",
                super::counted(count, "dead letter")
            ),
        },
        Block::Table(table),
    ];
    if plans.unusable > 0 {
        let text = format!(
            "{} more, which do not say where they came from, are left alone.",
            plans.unusable
        );
        blocks.push(Block::note(Mood::Unknown, text));
    }
    let latest = plans.plans.iter().map(|plan| plan.dead_until).max();
    blocks.extend(latest.and_then(|latest| confirm_plan(ask, kind, count, latest)));
    confirming(blocks)
}

/// The form that does what was planned.
fn confirm_plan(ask: Ask<'_>, kind: OperationKind, count: u64, latest: Timestamp) -> Option<Block> {
    let what = match kind {
        OperationKind::Redrive => "Redrive",
        _ => "Discard",
    };
    let rest = ask.query.without("page").without("live").without("fresh").text();
    let path = format!("/act/{}{rest}", what.to_lowercase());
    let mut confirm = action(path, &format!("{what} {}", super::counted(count, "dead letter")));
    confirm.is_final = kind != OperationKind::Redrive;
    confirm.hidden = vec![
        ("yes".to_owned(), "yes".to_owned()),
        ("dead_until".to_owned(), latest.to_string()),
    ];
    if kind == OperationKind::Redrive {
        let options = Options::default();
        confirm.fields = vec![
            Field {
                value: options.rate.to_string(),
                ..Field::new("rate", "Rate", "5/s")
            },
            Field {
                value: options.canary.to_string(),
                ..Field::new("canary", "How many first", "10")
            },
        ];
    }
    for_operators(ask, vec![confirm])
}

pub fn cancel(ask: Ask<'_>, id: &str) -> Shown {
    let text = "All commands of the batch that have made no call yet would end as failures, with a dead letter each.";
    let mut confirm = action(
        format!("/act/batch/cancel?batch={}", encoded(id)),
        "Cancel the batch",
    );
    confirm.is_final = true;
    confirm.hidden = vec![("yes".to_owned(), "yes".to_owned())];
    let mut blocks = vec![Block::Verdict {
        mood: Mood::Waits,
        text: text.to_owned(),
    }];
    blocks.extend(for_operators(ask, vec![confirm]));
    confirming(blocks)
}
