//! `usher why` and `usher waiting`: what a command, a user or a worker waits for.

use jiff::Timestamp;
use usher::broker::Topology;
use usher::clock::Clock;
use usher::contract::inquiry::{Answer, Question};
use usher::operations::why::{Asking, Findings, Period, Place, Story, WhyError};

use super::exit::{self, Exit};
use super::operator::{Operator, Scope};
use super::times::back;
use super::{Context, counted, print, say};

#[derive(clap::Args)]
pub struct Why {
    /// The command's id
    #[arg(
        value_name = "COMMAND-ID",
        required_unless_present = "user",
        conflicts_with = "user"
    )]
    id: Option<String>,
    /// All commands of this user
    #[arg(long, value_name = "USER-ID")]
    user: Option<String>,
    /// From when on the outcome log is read: a time, or a span such as 2h. Default: the time in the command's id, if it has
    /// one (version 7); otherwise a day
    #[arg(long, value_name = "TIME", value_parser = back)]
    since: Option<Timestamp>,
    /// Until when it is read: a time, or a span such as 1h. What came later is not shown. Default: to its end, which takes about
    /// a minute for a million events
    #[arg(long, value_name = "TIME", value_parser = back)]
    until: Option<Timestamp>,
    #[command(flatten)]
    scope: Scope,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct Waiting {
    #[command(flatten)]
    scope: Scope,
    /// As JSON
    #[arg(long)]
    json: bool,
}

async fn asking(operator: &Operator) -> anyhow::Result<Asking> {
    let partitions = operator.partitions().await?;
    let config = usher::broker::Config {
        partitions,
        ..operator.config.clone()
    };
    Ok(Asking {
        inspector: operator.inspector.clone(),
        publisher: operator.publisher.clone(),
        topology: Topology::new(operator.provider.as_str(), &config),
    })
}

fn refused(error: WhyError) -> anyhow::Error {
    match error {
        WhyError::Inspect(error) => super::operator::refused(error.into()),
        WhyError::Publish(_) => exit::with(Exit::OutOfReach, error),
    }
}

/// Exit code 1: it is not known, or it ended as a dead letter.
pub async fn why(context: &Context, args: Why) -> anyhow::Result<Exit> {
    let period = Period {
        since: args.since,
        until: args.until,
    };
    if let (Some(since), Some(until)) = (args.since, args.until)
        && until < since
    {
        return Err(exit::usage("--until is before --since"));
    }
    let operator = Operator::connect(context, args.scope).await?;
    let (asking, now) = (asking(&operator).await?, Clock::System.now());
    let found = match (&args.id, &args.user) {
        (Some(id), _) => asking.command(id, period, now).await,
        (None, user) => {
            asking
                .user(user.as_deref().unwrap_or_default(), period, now)
                .await
        }
    };
    operator.close().await;
    let found = found.map_err(refused)?;
    print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&found)?),
        false => as_text(&found),
    })?;
    if !found.complete {
        say("usher: the outcome log was not read to its end in time; name a later --since");
    }
    let is_bad = |story: &Story| matches!(story.state, Place::DeadLettered | Place::NotSeen);
    Ok(match found.stories.iter().any(is_bad) {
        true => Exit::Failures,
        false => Exit::Done,
    })
}

fn as_text(found: &Findings) -> String {
    let mut lines = Vec::new();
    for story in &found.stories {
        let user = story
            .user_id
            .as_ref()
            .map_or(String::new(), |user| format!(" of user {user}"));
        let batch = story
            .batch_id
            .as_ref()
            .map_or(String::new(), |batch| format!(", batch {batch}"));
        lines.push(format!("{}{user}{batch}", story.command_id));
        lines.extend(
            story
                .timeline
                .iter()
                .map(|moment| format!("  {:<26} {}", moment.at.to_string(), moment.what)),
        );
        let state = match story.state {
            Place::Succeeded => "succeeded",
            Place::DeadLettered => "dead letter",
            Place::InHand => "in hand",
            Place::Begun => "begun",
            Place::NotSeen => "not seen",
        };
        lines.push(format!("  {state}: {}", story.because));
        lines.extend(story.ends.as_ref().map(|ends| format!("  next: {ends}")));
    }
    if found.stories.is_empty() {
        lines.push(format!(
            "no worker has a command of this user in hand, and the outcome log has none since {}; {} ready in the queues",
            found.since,
            counted(found.ready, "command")
        ));
    }
    lines.join("\n") + "\n"
}

pub async fn waiting(context: &Context, args: Waiting) -> anyhow::Result<Exit> {
    let operator = Operator::connect(context, args.scope).await?;
    let answers = asking(&operator).await?.ask(Question::Waiting, |_| false).await;
    operator.close().await;
    let answers = answers.map_err(refused)?;
    print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&answers)?),
        false => overview(&answers),
    })?;
    Ok(Exit::Done)
}

fn overview(answers: &[Answer]) -> String {
    if answers.is_empty() {
        return "no worker answers: none runs, or none has reached the broker\n".to_owned();
    }
    let mut lines = Vec::new();
    for answer in answers {
        lines.push(format!(
            "worker {}: {} of {} in hand, {} of {:.1} calls/s",
            answer.worker,
            answer.in_hand,
            counted(answer.window as u64, "command"),
            counted(answer.leases.len() as u64, "lease"),
            answer.pace
        ));
        if let Some(pause) = &answer.pause {
            let why = pause.why.as_deref().unwrap_or("no more is known");
            lines.push(format!(
                "  paused since {:.0} ({}): {why}",
                pause.since, pause.cause
            ));
        }
        for cause in &answer.causes {
            lines.push(format!(
                "  {:<9} {:>6}  oldest {} since {}",
                cause.cause,
                cause.commands,
                cause.oldest.as_deref().unwrap_or("(without an id)"),
                cause.since
            ));
        }
        let several = answer.users.iter().filter(|user| user.commands > 1);
        lines.extend(several.map(|user| {
            format!(
                "  user {}: {}",
                user.user_id,
                counted(user.commands as u64, "command")
            )
        }));
    }
    lines.join("\n") + "\n"
}
