//! `usher dead-letters list`

use std::ops::ControlFlow;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use usher::contract::Reason;
use usher::operations::dead_letters::{By, GROUPS_MAX, Group, Groups, Letter, Looked, Tally, look};

use super::choose::Choose;
use crate::cli::exit::Exit;
use crate::cli::operator::inspector;
use crate::cli::{Context, counted, note, print, printable, say, style};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choose: Choose,
    /// Count by this alone. Default: by reason, code and pointer, with what to do
    #[arg(long, value_enum, conflicts_with = "each")]
    by: Option<Column>,
    /// List every dead letter. All are held until the last line is written, so write to a file rather than to a pager
    #[arg(long, alias = "long")]
    each: bool,
    /// As JSON; with --each one line for each
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Column {
    Reason,
    Code,
    Pointer,
    User,
    Batch,
    Day,
}

impl Column {
    fn by(self) -> By {
        match self {
            Self::Reason => By::Reason,
            Self::Code => By::Code,
            Self::Pointer => By::Pointer,
            Self::User => By::User,
            Self::Batch => By::Batch,
            Self::Day => By::Day,
        }
    }
}

pub async fn list(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let filter = args.choose.filter()?;
    let inspector = inspector(&config).await?;
    let by = args.by.map_or(By::Fingerprint, Column::by);
    let mut groups = Groups::new(by);
    let mut written = Ok(());
    let looked = look(&*inspector, |letter, _| {
        if !filter.matches(&letter) {
            return ControlFlow::Continue(());
        }
        groups.add(&letter);
        if args.each {
            written = print(&line(&letter, args.json));
        }
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    let looked = looked
        .await
        .map_err(|error| super::not_inspected(&config, &error))?;
    inspector.close().await;
    written?;
    match (args.each, args.json) {
        (true, _) => sum_up(&groups, looked),
        (false, true) => print(&format!("{:#}\n", as_json(&groups, by, looked)))?,
        (false, false) => {
            print(&table(&groups, by))?;
            sum_up(&groups, looked);
        }
    }
    Ok(Exit::Done)
}

fn line(letter: &Letter, json: bool) -> String {
    if json {
        return format!("{}\n", serde_json::to_string(letter).unwrap_or_default());
    }
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), printable);
    format!(
        "{}  {}  {}  {}  {}  {}\n",
        text(&letter.id),
        text(&letter.user),
        text(&letter.reason),
        text(&letter.code),
        text(&letter.dead_at.map(|at| at.to_string())),
        letter.redrives,
    )
}

/// That something can't be seen is a warning.
fn sum_up(groups: &Groups, looked: Looked) {
    let line = format!("usher: {}", summary(groups, looked));
    match looked.consumers {
        0 => note(&line),
        _ => say(&line),
    }
}

fn summary(groups: &Groups, looked: Looked) -> String {
    let mut text = match groups.total.count == looked.seen {
        true => counted(looked.seen, "dead letter"),
        false => format!(
            "{} of {}",
            groups.total.count,
            counted(looked.seen, "dead letter")
        ),
    };
    if looked.consumers > 0 {
        let others = counted(looked.consumers, "other consumer");
        text += &format!("; {others} of the queue may hold more, which can't be seen");
    }
    text
}

/// What to do about a group, if its reason is known.
fn remedy(by: By, group: &Group) -> Option<&'static str> {
    let reason = matches!(by, By::Fingerprint | By::Reason).then(|| group.key[0].as_deref());
    Reason::parse(reason??).map(Reason::remedy)
}

fn as_json(groups: &Groups, by: By, looked: Looked) -> Value {
    let group = |group: &Group| {
        let mut object: Map<String, Value> = by
            .columns()
            .iter()
            .zip(&group.key)
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        object.extend(tally(group.tally));
        if let Some(remedy) = remedy(by, group) {
            object.insert("remedy".to_owned(), remedy.into());
        }
        Value::Object(object)
    };
    json!({
        "groups": groups.sorted().iter().map(group).collect::<Vec<_>>(),
        "others": groups.others.count,
        "count": groups.total.count,
        "seen": looked.seen,
        "otherConsumers": looked.consumers,
    })
}

fn tally(tally: Tally) -> Map<String, Value> {
    let Tally { count, first, last } = tally;
    let members = [
        ("count", json!(count)),
        ("first", json!(first)),
        ("last", json!(last)),
    ];
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn table(groups: &Groups, by: By) -> String {
    let heads = ["count"].iter().chain(by.columns()).chain(&["first", "last"]);
    let mut rows: Vec<Vec<String>> = vec![heads.map(|head| (*head).to_owned()).collect()];
    let sorted = groups.sorted();
    for group in &sorted {
        let text = |text: Option<String>| text.as_deref().map_or("-".to_owned(), printable);
        let time = |at: Option<jiff::Timestamp>| text(at.map(|at| format!("{at:.0}")));
        let mut row = vec![group.tally.count.to_string()];
        row.extend(group.key.iter().cloned().map(text));
        row.extend([time(group.tally.first), time(group.tally.last)]);
        rows.push(row);
    }
    let columns = rows[0].len();
    let widths: Vec<_> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = match number {
            0 => style::heading(line.trim_end()),
            _ => line.trim_end().to_owned(),
        };
        text += &format!("{line}\n");
        let group = number.checked_sub(1).and_then(|index| sorted.get(index));
        if let Some(remedy) = group.and_then(|group| remedy(by, group)) {
            let remedy = style::doubtful(remedy);
            text += &format!("{:1$}{remedy}\n", "", widths[0] + 2);
        }
    }
    if groups.others.count > 0 {
        text += &format!(
            "{} in further groups: more than {GROUPS_MAX} are not counted apart\n",
            groups.others.count
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let letter = Letter {
            user: Some("a\u{1b}[2J\nb".to_owned()),
            code: Some("c\r".to_owned()),
            ..Letter::default()
        };
        let mut groups = Groups::new(By::Code);
        groups.add(&letter);
        for text in [
            line(&letter, false),
            line(&letter, true),
            table(&groups, By::Code),
        ] {
            let lines = text.lines().count();
            assert!(lines <= 2 && !text.contains(['\u{1b}', '\r']), "{text:?}");
        }
    }
}
