//! `usher pause`, `usher resume` and `usher pace`: orders for all workers of a provider.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};
use usher::clock::Clock;
use usher::contract::Orders;
use usher::contract::notice::Notice;
use usher::contract::orders::{BatchOrder, PaceOrder, PauseOrder};
use usher::operations::steering::{self, HEARD_WITHIN, Heard, Order, rate};

use super::exit::Exit;
use super::operator::{By, Operator, Scope, refused};
use super::times::{self, ahead};
use super::{Context, counted, print};

#[derive(clap::Args)]
pub struct Pause {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    by: By,
    /// Why, for those who find it paused
    #[arg(long)]
    reason: String,
    /// Only bulk commands wait; interactive ones continue
    #[arg(long)]
    bulk_only: bool,
    /// When it ends by itself: a time, or a span such as 2h. Default: `usher resume` ends it
    #[arg(long, value_name = "TIME", value_parser = ahead)]
    until: Option<Timestamp>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct Resume {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    by: By,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
pub enum Pace {
    /// Show the learned pace, the orders in force, and which workers follow them
    Show {
        #[command(flatten)]
        scope: Scope,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Set the pace of the whole fleet, instead of the learned one. The configured rate stays the upper bound
    Pin {
        /// Calls per second, such as 20/s, or 600/min
        #[arg(value_name = "RATE", value_parser = rate)]
        rate: f64,
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        by: By,
        /// For how long: a span such as 2h, or the time of its end. Default: `usher pace unpin` ends it
        #[arg(long = "for", value_name = "TIME", value_parser = ahead)]
        until: Option<Timestamp>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Return to the learned pace
    Unpin {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        by: By,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn pause(context: &Context, args: Pause) -> anyhow::Result<Exit> {
    let order = PauseOrder {
        bulk_only: args.bulk_only,
        by: args.by.name()?,
        reason: steering::text("--reason", &args.reason).map_err(refused)?,
        since: times::now(),
        until: args.until,
    };
    let by = order.by.clone();
    order_all(context, args.scope, args.json, (&by, &Order::Pause(order))).await
}

pub async fn resume(context: &Context, args: Resume) -> anyhow::Result<Exit> {
    let by = args.by.name_or_unknown()?;
    order_all(context, args.scope, args.json, (&by, &Order::Resume)).await
}

pub async fn pace(context: &Context, verb: Pace) -> anyhow::Result<Exit> {
    match verb {
        Pace::Show { scope, json } => show(context, scope, json).await,
        Pace::Pin {
            rate,
            scope,
            by,
            until,
            json,
        } => {
            let order = PaceOrder {
                per_second: rate,
                by: by.name()?,
                since: times::now(),
                until,
            };
            let by = order.by.clone();
            order_all(context, scope, json, (&by, &Order::Pin(order))).await
        }
        Pace::Unpin { scope, by, json } => {
            let by = by.name_or_unknown()?;
            order_all(context, scope, json, (&by, &Order::Unpin)).await
        }
    }
}

/// Gives the order, and shows which workers follow it.
async fn order_all(
    context: &Context,
    scope: Scope,
    json: bool,
    (by, order): (&str, &Order),
) -> anyhow::Result<Exit> {
    let operator = Operator::connect(context, scope).await?;
    let ordered = operator.steering().order(order, (by, times::now())).await;
    let orders = ordered.map_err(refused)?;
    tell(&operator, &orders, json).await
}

async fn show(context: &Context, scope: Scope, json: bool) -> anyhow::Result<Exit> {
    let operator = Operator::connect(context, scope).await?;
    let orders = operator.steering().orders().await.map_err(refused)?;
    tell(&operator, &orders, json).await
}

async fn tell(operator: &Operator, orders: &Orders, json: bool) -> anyhow::Result<Exit> {
    let heard = operator.steering().listen(HEARD_WITHIN).await;
    let heard = heard.map_err(refused)?;
    operator.close().await;
    print(&match json {
        true => format!(
            "{}\n",
            serde_json::to_string_pretty(&as_json(operator, orders, &heard))?
        ),
        false => as_text(operator, orders, &heard),
    })?;
    Ok(Exit::Done)
}

fn as_json(operator: &Operator, orders: &Orders, heard: &Heard) -> Value {
    let worker = |notice: &Notice| {
        json!({
            "id": notice.worker,
            "leases": notice.leases.len(),
            "follows": notice.orders >= orders.revision,
            "paused": notice.paused.as_ref().map(|paused| paused.cause.as_str()),
        })
    };
    json!({
        "provider": operator.provider.as_str(),
        "orders": orders,
        "pace": heard.notices.first().map(|notice| notice.pace),
        "workers": heard.notices.iter().map(worker).collect::<Vec<_>>(),
    })
}

fn as_text(operator: &Operator, orders: &Orders, heard: &Heard) -> String {
    let (now, provider) = (Clock::System.now(), &operator.provider);
    let mut lines = vec![
        match orders.pause_at(now) {
            Some(pause) => format!("{provider}: {}", described(pause)),
            None => format!("{provider}: not paused by an operator"),
        },
        match (orders.pace_at(now), heard.notices.first()) {
            (Some(pace), _) => format!(
                "pace: pinned to {}/s {}, by {}",
                pace.per_second,
                end(pace.until, "usher pace unpin"),
                pace.by
            ),
            (None, Some(notice)) => format!("pace: learned; {}", learned(notice)),
            (None, None) => "pace: not pinned".to_owned(),
        },
    ];
    let batch = |(id, order): (&String, &BatchOrder)| {
        let (state, since, by) = (order.state.as_str(), order.since, &order.by);
        format!("batch {id}: {state} since {since}, by {by}")
    };
    lines.extend(orders.batches.iter().map(batch));
    let (all, following) = (heard.notices.len(), heard.following(orders.revision));
    lines.push(match all {
        0 => "no worker is running: those that start will follow these orders".to_owned(),
        1 if following == 1 => "1 worker runs and follows these orders".to_owned(),
        all if all == following => format!("{all} workers run and follow these orders"),
        all => format!(
            "{} running, {following} of them following these orders yet",
            counted(all as u64, "worker")
        ),
    });
    for notice in &heard.notices {
        if let Some(paused) = &notice.paused {
            lines.push(format!(
                "worker {}: paused ({})",
                notice.worker,
                paused.cause.as_str()
            ));
        }
    }
    lines.join("\n") + "\n"
}

fn described(pause: &PauseOrder) -> String {
    let what = if pause.bulk_only {
        "bulk traffic"
    } else {
        "all calls"
    };
    format!(
        "{what} paused since {} {}, by {}: {}",
        pause.since,
        end(pause.until, "usher resume"),
        pause.by,
        pause.reason
    )
}

fn end(until: Option<Timestamp>, verb: &str) -> String {
    match until {
        Some(until) => format!("until {until}"),
        None => format!("until `{verb}`"),
    }
}

fn learned(notice: &Notice) -> String {
    let pace = &notice.pace;
    match pace.slowdowns {
        0 => "the provider has not slowed the fleet down".to_owned(),
        times => format!(
            "{} so far, and held {:.1}/s after the last one",
            counted(times, "slowdown"),
            pace.plateau
        ),
    }
}
