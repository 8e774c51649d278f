//! `usher health`: whether the worker of this machine is alive or ready, as an exit code.

use std::net::SocketAddr;

use usher::admin;

use super::exit::{self, Exit};
use super::{Context, print, printable};

#[derive(clap::Args)]
pub struct Args {
    /// Ask whether commands make progress (/readyz), instead of whether the process is alive (/livez)
    #[arg(long)]
    ready: bool,
}

pub async fn health(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let at = context.admin()?.listen;
    let said = match args.ready {
        true => ready(at).await?,
        false => alive(at).await?,
    };
    print(&format!("{said}\n"))?;
    Ok(Exit::Done)
}

async fn alive(at: SocketAddr) -> anyhow::Result<String> {
    match admin::liveness_of(at).await {
        Ok(true) => Ok("alive".to_owned()),
        Ok(false) => Err(nobody(at)),
        Err(error) => Err(exit::with(
            Exit::OutOfReach,
            format_args!("what answers at admin.listen {at} could not be asked for /livez: {error}"),
        )),
    }
}

async fn ready(at: SocketAddr) -> anyhow::Result<String> {
    let reported = match admin::readiness_of(at).await {
        Ok(Some(reported)) => reported,
        Ok(None) => return Err(nobody(at)),
        Err(error) => {
            return Err(exit::with(
                Exit::OutOfReach,
                format_args!("what answers at admin.listen {at} could not be asked for /readyz: {error}"),
            ));
        }
    };
    let detail = reported
        .detail
        .map_or_else(String::new, |detail| format!(": {detail}"));
    let said = printable(&format!("{}{detail}", reported.state));
    match reported.ready {
        true => Ok(format!("ready: {said}")),
        false => Err(exit::with(
            Exit::OutOfReach,
            format_args!("the worker at admin.listen {at} is not ready: {said}"),
        )),
    }
}

fn nobody(at: SocketAddr) -> anyhow::Error {
    exit::with(
        Exit::OutOfReach,
        format_args!("no worker listens on admin.listen {at}"),
    )
}
