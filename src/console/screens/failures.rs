//! Dead letters by reason, code and pointer, and those that a filter chooses.

use std::collections::HashMap;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::{Ask, age, counted};
use crate::console::address::{Query, Screen};
use crate::console::block::{Block, Cell, Field, Mood, Table, number};
use crate::console::letters::Snapshot;
use crate::console::link::Trouble;
use crate::console::page::{Shown, refused};
use crate::console::{Console, Seen, chart};
use crate::contract::Reason;
use crate::operations::dead_letters::{By, Filter, GROUPS_MAX, Groups, Letter, Tally};

/// How many are listed on a page.
const PAGE: usize = 50;

/// How many users are listed.
const USERS: usize = 10;

/// A look at all dead letters holds them: it is made no more often than this, in seconds.
const LOOKED_EACH: u64 = 15;

/// The trend is that of so many spans.
const TREND: usize = 12;

const FIELDS: [(&str, &str, &str); 8] = [
    ("code", "Code", "such as USER_LOCKED"),
    ("pointer", "Pointer", "such as /update/email"),
    ("user", "User", "id"),
    ("batch", "Batch", "id"),
    ("provider", "Provider", "name"),
    // A field with the name id would stand for the id of its form, and a live update would lose what is typed there.
    ("command", "Command", "id"),
    ("since", "Dead since", "2026-11-21T10:00:00Z"),
    ("until", "Dead before", "2026-11-21T11:00:00Z"),
];

impl Console {
    /// One look for all viewers.
    pub async fn snapshot(&self, ask: Ask<'_>) -> Result<Seen<Snapshot>, Trouble> {
        let patience = ask.patience(LOOKED_EACH);
        let take = |ports: std::sync::Arc<crate::console::Ports>| Snapshot::take(ports.inspector.clone());
        self.look_alone(&self.letters, patience, take).await
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Shown, Trouble> {
    let filter = match ask.query.filter() {
        Ok(filter) => filter,
        Err(why) => return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, &why)),
    };
    let seen = console.snapshot(ask).await?;
    let (snapshot, now) = (&seen.value, console.clock.now());
    let chosen: Vec<_> = snapshot.chosen(&filter).collect();
    let mut blocks = vec![verdict(&seen, &filter, chosen.len() as u64)];
    if snapshot.consumers > 0 {
        let others = counted(snapshot.consumers, "other consumer");
        let text = format!("{others} of the queue may hold more, which can't be seen.");
        blocks.push(Block::note(Mood::Unknown, text));
    }
    if snapshot.beyond() > 0 {
        let (kept, beyond) = (number(snapshot.letters.len() as u64), number(snapshot.beyond()));
        let text = format!(
            "Lists and filters know the oldest {kept}; {beyond} more are counted by their causes alone."
        );
        blocks.push(Block::note(Mood::Unknown, text));
    }
    blocks.push(filter_form(ask.query));
    blocks.extend(super::actions::on_letters(ask, &filter, chosen.len() as u64));
    blocks.push(Block::Table(groups(snapshot, &chosen, &filter, now)));
    blocks.extend(users(&chosen, ask.query, now));
    blocks.extend(list(&chosen, ask.query, now));
    Ok(blocks.into())
}

fn verdict(seen: &Seen<Snapshot>, filter: &Filter, chosen: u64) -> Block {
    let (all, age) = (seen.value.seen, age(seen));
    let (mood, text) = match (all, filter.is_empty()) {
        (0, _) => (Mood::Good, format!("No dead letter. Looked {age}.")),
        (all, true) => (
            Mood::Bad,
            format!("{} in the queue. Looked {age}.", counted(all, "dead letter")),
        ),
        (all, false) => (
            Mood::Bad,
            format!(
                "{} of {} chosen. Looked {age}.",
                number(chosen),
                counted(all, "dead letter")
            ),
        ),
    };
    Block::Verdict { mood, text }
}

fn filter_form(query: &Query) -> Block {
    let mut fields = vec![Field {
        words: Reason::ALL.iter().map(|reason| reason.as_str()).collect(),
        value: query.get("reason").unwrap_or_default().to_owned(),
        ..Field::new("reason", "Reason", "")
    }];
    fields.extend(FIELDS.iter().map(|(name, label, hint)| Field {
        value: query.get(name).unwrap_or_default().to_owned(),
        ..Field::new(name, label, hint)
    }));
    Block::Filter {
        path: Screen::Failures.path(),
        fields,
        label: "Choose",
    }
}

/// By reason, code and pointer: usually one cause.
fn groups(snapshot: &Snapshot, chosen: &[&Letter], filter: &Filter, now: Timestamp) -> Table {
    let heads = [
        "Count",
        "Reason",
        "Code",
        "Pointer",
        "Trend",
        "First",
        "Last",
        "What to do",
    ];
    let mut table = Table::new("groups", "By cause", &heads).empty(match snapshot.seen {
        0 => "No command has failed and waits here. That is as it should be.",
        _ => "No dead letter is as the filter asks.",
    });
    let mut of_chosen = Groups::new(By::Fingerprint);
    // All of them are counted, those that are not kept included, where no filter asks for less.
    let groups = match filter.is_empty() {
        true => &snapshot.groups,
        false => {
            chosen.iter().for_each(|letter| of_chosen.add(letter));
            &of_chosen
        }
    };
    let trends = Trends::of(chosen, now);
    for group in groups.sorted() {
        let [reason, code, pointer] = &group.key[..] else {
            continue;
        };
        let mut query = Query::default();
        for (name, value) in [("reason", reason), ("code", code), ("pointer", pointer)] {
            if let Some(value) = value {
                query = query.with(name, value);
            }
        }
        let text = reason.as_deref().unwrap_or("no reason");
        let known = reason.as_deref().and_then(Reason::parse);
        table.rows.push(vec![
            Cell::Number(group.tally.count),
            match known {
                Some(_) => Cell::link(text, format!("{}{}", Screen::Failures.path(), query.text())),
                None => Cell::text(text),
            },
            code.as_ref().map_or(Cell::None, |code| Cell::Code(code.clone())),
            pointer
                .as_ref()
                .map_or(Cell::None, |pointer| Cell::Code(pointer.clone())),
            Cell::Drawn(chart::trend(&trends.of_key(&group.key))),
            Cell::time(group.tally.first, now),
            Cell::time(group.tally.last, now),
            Cell::maybe(known.map(Reason::remedy)),
        ]);
    }
    table.note = match groups.others.count {
        0 => trends.note(),
        others => format!(
            "{others} in further groups: more than {GROUPS_MAX} are not counted apart. {}",
            trends.note()
        ),
    };
    table
}

/// How many users are hit, and those with most dead letters.
fn users(chosen: &[&Letter], query: &Query, now: Timestamp) -> Option<Block> {
    let mut counts: HashMap<&str, Tally> = HashMap::new();
    for letter in chosen {
        if let Some(user) = letter.user.as_deref() {
            counts.entry(user).or_default().add(letter);
        }
    }
    let hit = counts.len();
    let mut most: Vec<_> = counts.into_iter().collect();
    most.sort_by(|(one, a), (other, b)| b.count.cmp(&a.count).then(one.cmp(other)));
    let mut table = Table::new(
        "users",
        "Users with most of them",
        &["User", "Count", "First", "Last"],
    );
    for (user, tally) in most.into_iter().take(USERS) {
        let of_user = query.without("page").with("user", user);
        table.rows.push(vec![
            Cell::link(user, format!("{}{}", Screen::Failures.path(), of_user.text())),
            Cell::Number(tally.count),
            Cell::time(tally.first, now),
            Cell::time(tally.last, now),
        ]);
    }
    table.note = format!("{} hit.", counted(hit as u64, "user"));
    (hit > 0).then_some(Block::Table(table))
}

/// How many of each cause died when, between the first and now.
struct Trends {
    counts: HashMap<Vec<Option<String>>, [u64; TREND]>,
    each: SignedDuration,
}

impl Trends {
    fn of(chosen: &[&Letter], now: Timestamp) -> Self {
        let first = chosen
            .iter()
            .filter_map(|letter| letter.dead_at)
            .min()
            .unwrap_or(now);
        let whole = now
            .duration_since(first)
            .as_secs()
            .clamp(TREND as i64, 7 * 86_400);
        let each = (whole / TREND as i64).max(1) + 1;
        let mut counts = HashMap::<_, [u64; TREND]>::new();
        for letter in chosen {
            let Some(at) = letter.dead_at else { continue };
            let ago = now.duration_since(at).as_secs().max(0) / each;
            let place = usize::try_from(ago)
                .ok()
                .and_then(|ago| (TREND - 1).checked_sub(ago));
            if let Some(place) = place {
                let key = vec![letter.reason.clone(), letter.code.clone(), letter.pointer.clone()];
                counts.entry(key).or_default()[place] += 1;
            }
        }
        let each = SignedDuration::from_secs(each);
        Self { counts, each }
    }

    fn of_key(&self, key: &[Option<String>]) -> [u64; TREND] {
        self.counts.get(key).copied().unwrap_or_default()
    }

    fn note(&self) -> String {
        let each = crate::console::block::span(self.each);
        format!("Trend: {TREND} spans of {each} until now, the largest of each cause as the full height.")
    }
}

fn list(chosen: &[&Letter], query: &Query, now: Timestamp) -> Vec<Block> {
    let pages = chosen.len().div_ceil(PAGE).max(1);
    let page: usize = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let page = page.clamp(1, pages);
    let heads = [
        "Command", "User", "Batch", "Reason", "Code", "Dead", "Attempts", "Redrives",
    ];
    let mut table = Table::new("letters", "Each of them, the latest first", &heads).empty("None to list.");
    for letter in chosen.iter().rev().skip((page - 1) * PAGE).take(PAGE) {
        let id = letter.id.as_deref();
        table.rows.push(vec![
            id.map_or(Cell::None, |id| {
                Cell::link(id, Screen::Failure(id.to_owned()).path())
            }),
            Cell::maybe(letter.user.as_deref()),
            letter.batch.as_deref().map_or(Cell::None, |batch| {
                Cell::link(batch, Screen::Batch(batch.to_owned()).path())
            }),
            Cell::maybe(letter.reason.as_deref()),
            letter.code.clone().map_or(Cell::None, Cell::Code),
            Cell::time(letter.dead_at, now),
            Cell::Number(
                letter
                    .attempts
                    .and_then(|count| u64::try_from(count).ok())
                    .unwrap_or(0),
            ),
            Cell::Number(u64::try_from(letter.redrives).unwrap_or(0)),
        ]);
    }
    let to = |page: usize| {
        format!(
            "{}{}",
            Screen::Failures.path(),
            query.with("page", &page.to_string()).text()
        )
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(("← Later".to_owned(), to(page - 1)));
    }
    if page < pages {
        links.push(("Earlier →".to_owned(), to(page + 1)));
    }
    if pages > 1 {
        table.note = format!("Page {page} of {pages}.");
    }
    let mut blocks = vec![Block::Table(table)];
    if !links.is_empty() {
        blocks.push(Block::Links(links));
    }
    blocks
}
