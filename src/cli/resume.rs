//! `usher resume`: an operator tells the worker on this machine to go on.

use std::time::Duration;

use super::exit::{self, Exit};
use super::{Context, print};

const PATIENCE: Duration = Duration::from_secs(5);

pub async fn resume(context: &Context) -> anyhow::Result<Exit> {
    let listen = context.config()?.admin.listen;
    let answer = tokio::time::timeout(PATIENCE, usher::admin::ask_to_resume(listen)).await;
    let Ok(Ok(was)) = answer else {
        return Err(exit::with(
            Exit::OutOfReach,
            format_args!("admin.listen: no worker answers at {listen}; run this where the worker runs"),
        ));
    };
    print(&format!("{was}\n"))?;
    Ok(Exit::Done)
}
