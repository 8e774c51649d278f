//! `usher topology`: what is on the broker, and what belongs there.

use clap::Subcommand;
use usher::broker::amqp::{self, ObjectState, Plan};

use super::exit::{self, Exit};
use super::{Context, print};

#[derive(Subcommand)]
pub enum Verb {
    /// Show what is missing and what differs; change nothing. Exit code 1: something does
    Plan {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Declare what is missing; refuse what differs
    Declare,
}

pub async fn topology(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = config.provider.name.as_str();
    if matches!(verb, Verb::Declare) {
        amqp::declare(&config.broker, name)
            .await
            .map_err(|error| exit::broker(&error))?;
    }
    let plan = amqp::plan(&config.broker, name)
        .await
        .map_err(|error| exit::broker(&error))?;
    print(&match verb {
        Verb::Plan { json: true } => format!("{}\n", serde_json::to_string_pretty(&plan)?),
        Verb::Plan { json: false } | Verb::Declare => table(&plan),
    })?;
    Ok(match plan.is_settled() {
        true => Exit::Done,
        false => Exit::Failures,
    })
}

/// A line for each object.
pub fn table(plan: &Plan) -> String {
    let width = plan
        .objects
        .iter()
        .map(|object| object.object.len())
        .max()
        .unwrap_or(0);
    let line = |object: &str, state: &ObjectState| match state {
        ObjectState::Missing => format!("{object:width$}  missing: `usher topology declare` makes it\n"),
        ObjectState::Present => format!("{object:width$}  present\n"),
        ObjectState::Differs { argument, is, wanted } => {
            format!("{object:width$}  differs: {argument} is {is}, wanted is {wanted}\n")
        }
    };
    plan.objects
        .iter()
        .map(|object| line(&object.object, &object.state))
        .collect()
}
