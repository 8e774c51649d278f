//! `usher topology`: compares the broker's topology with the configuration, and declares it.

use clap::Subcommand;
use usher::broker::amqp::{self, ObjectState, Plan, Repartitioned};
use usher::broker::topology::UNROUTABLE;

use super::exit::{self, Exit};
use super::{Context, detail, note, print, say};

#[derive(Subcommand)]
pub enum Verb {
    /// Show what is missing and what differs; change nothing. Exit code 1: something is missing or differs
    Plan {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Declare what is missing; refuse what differs. The number of partitions is changed if all
    /// command queues are empty and have no consumers
    Declare,
}

pub async fn topology(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = config.provider.name.as_str();
    detail(|| {
        let broker = &config.broker.url;
        format!("comparing the topology of {name} on {broker} with the configuration")
    });
    if matches!(verb, Verb::Declare) {
        let declared = amqp::repartition(&config.broker, name).await;
        if let Some(changed) = declared.map_err(|error| exit::broker(&error))? {
            let line = describe(name, changed);
            match changed.unroutable {
                0 => note(&line),
                _ => say(&line),
            }
        }
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

fn describe(provider: &str, changed: Repartitioned) -> String {
    let Repartitioned { from, to, unroutable } = changed;
    let meanwhile = match unroutable {
        0 => "no command was published meanwhile".to_owned(),
        1 => format!("1 command was published meanwhile and is in {UNROUTABLE}: publish it again"),
        count => format!(
            "{count} commands were published meanwhile and are in {UNROUTABLE}: publish them again, in order"
        ),
    };
    let before = super::counted(from.into(), "partition");
    format!("usher: {provider} had {before} and has {to}; {meanwhile}")
}

/// One line per object.
pub fn table(plan: &Plan) -> String {
    let width = plan
        .objects
        .iter()
        .map(|object| object.object.len())
        .max()
        .unwrap_or(0);
    let line = |object: &str, state: &ObjectState| match state {
        ObjectState::Missing => format!("{object:width$}  missing: `usher topology declare` creates it\n"),
        ObjectState::Present => format!("{object:width$}  present\n"),
        ObjectState::Differs { argument, is, wanted } if argument == amqp::PARTITIONS => format!(
            "{object:width$}  differs: {argument} is {is}, wanted is {wanted}; `usher topology declare` changes it \
             once they are empty and no worker runs\n"
        ),
        ObjectState::Differs { argument, is, wanted } => {
            format!("{object:width$}  differs: {argument} is {is}, wanted is {wanted}\n")
        }
    };
    plan.objects
        .iter()
        .map(|object| line(&object.object, &object.state))
        .collect()
}
