//! `usher resume`: resumes the worker on this machine.

use std::time::Duration;

use usher::admin::{Access, Answered, ask_to_resume};

use super::exit::{self, Exit};
use super::{Context, print};

const PATIENCE: Duration = Duration::from_secs(5);

pub async fn resume(context: &Context) -> anyhow::Result<Exit> {
    let admin = context.config()?.admin;
    let listen = admin.listen;
    let token = Access::new(&admin)
        .token()
        .await
        .map_err(|error| exit::usage(format_args!("admin.token: {error}")))?;
    let answer = tokio::time::timeout(PATIENCE, ask_to_resume(listen, token.as_ref())).await;
    match answer {
        Ok(Ok(Answered::Done(was))) => print(&format!("{was}\n"))?,
        Ok(Ok(Answered::Refused(why))) => {
            return Err(exit::usage(format_args!("the worker at {listen} refuses: {why}")));
        }
        Ok(Err(_)) | Err(_) => {
            return Err(exit::with(
                Exit::OutOfReach,
                format_args!("admin.listen: no worker answers at {listen}; run this where the worker runs"),
            ));
        }
    }
    Ok(Exit::Done)
}
