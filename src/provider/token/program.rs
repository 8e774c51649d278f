//! A token that a program prints, for providers with their own way to obtain tokens, such as a request that is signed
//! with a cloud's key.
//!
//! The program is limited in time and output. Nothing of its output is used but the token, in a header.

#[cfg(test)]
mod tests;

use std::io;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::bearer;
use super::fetched::Fetched;
use super::oauth2::lifetime;
use crate::contract::Fault;
use crate::provider::http::lacks_descriptors;
use crate::provider::{ProviderError, SetupError};

/// More output is not a token.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// Runs the program and keeps the current token.
pub(in crate::provider) struct Program {
    name: String,
    arguments: Vec<String>,
    time_max: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) fetched: Fetched,
    /// Whether the last run failed, so that repeated failures are logged once.
    failing: bool,
}

#[derive(Deserialize)]
struct Printed {
    #[serde(alias = "access_token")]
    token: SecretString,
    #[serde(default)]
    expires_in: Value,
}

impl Program {
    pub(super) fn new(command: Vec<String>, time_max: Duration) -> Result<Self, SetupError> {
        let mut command = command.into_iter();
        let name = command.next().filter(|name| !name.is_empty()).ok_or_else(|| {
            let detail = "must be a program and its arguments, each as a separate text";
            SetupError::new("provider.auth.token_command", detail)
        })?;
        Ok(Self {
            name,
            arguments: command.collect(),
            time_max,
            state: Mutex::default(),
        })
    }

    /// Runs the program once. If it prints no token, the current one is used while it is valid.
    pub(in crate::provider) async fn fetch(&self) -> Result<(), ProviderError> {
        let asked_at = Instant::now();
        let granted = match timeout(self.time_max, self.run()).await {
            Ok(printed) => printed.and_then(|printed| self.granted(&printed)),
            Err(_) => Err(self.error(format_args!(
                "did not end within {:?} (provider.timeout) and was stopped",
                self.time_max
            ))),
        };
        let mut state = self.lock();
        match granted {
            Ok((header, lifetime)) => {
                state.fetched.keep(header, lifetime, asked_at);
                state.failing = false;
                tracing::debug!(token.serves_s = lifetime.as_secs(), "token: printed");
                Ok(())
            }
            Err(error) => {
                let serves = state.fetched.fetch_failed();
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::warn!(%error, token.serves = serves, "token: none is printed");
                }
                Err(error)
            }
        }
    }

    /// The output of the program, if it succeeds.
    async fn run(&self) -> Result<Vec<u8>, ProviderError> {
        let mut command = Command::new(&self.name);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut running = Running(command.spawn().map_err(|error| self.not_started(&error))?);
        let lost = |error: io::Error| self.error(format_args!("can't be read ({error})"));
        let mut printed = Vec::new();
        if let Some(output) = running.0.stdout.take() {
            let mut output = output.take(OUTPUT_BYTES_MAX + 1);
            output.read_to_end(&mut printed).await.map_err(lost)?;
        }
        if printed.len() as u64 > OUTPUT_BYTES_MAX {
            return Err(self.error(format_args!(
                "printed more than 64 KiB and was stopped; make it print only the JSON with the token"
            )));
        }
        let status = running.0.wait().await.map_err(lost)?;
        match status.success() {
            true => Ok(printed),
            false => Err(self.error(format_args!(
                "failed ({status}); run it by hand as the worker's user to see why"
            ))),
        }
    }

    fn granted(&self, printed: &[u8]) -> Result<(HeaderValue, Duration), ProviderError> {
        // serde would also accept an array for a struct.
        let is_object = printed.trim_ascii_start().first() == Some(&b'{');
        let printed = is_object.then(|| serde_json::from_slice::<Printed>(printed).ok());
        let printed = printed.flatten().ok_or_else(|| {
            self.error(format_args!(
               "printed something other than JSON such as {{\"token\": \"...\", \"expires_in\": 900}}; make it print only \
                 that"
            ))
        })?;
        let lifetime = lifetime(&printed.expires_in).ok_or_else(|| {
            self.error(format_args!(
                "printed an expires_in that is not a positive number of seconds; correct it"
            ))
        })?;
        let header = bearer(printed.token.expose_secret()).map_err(|_| {
            self.error(format_args!(
                "printed a token that an HTTP header can't contain; make it print only the token"
            ))
        })?;
        Ok((header, lifetime))
    }

    fn not_started(&self, error: &io::Error) -> ProviderError {
        let fault = match lacks_descriptors(error) {
            true => Fault::Worker,
            false => Fault::Credentials,
        };
        let failed = self.error(format_args!(
            "can't be started ({error}); correct its path, or its permissions for the worker's user"
        ));
        ProviderError { fault, ..failed }
    }

    /// Arguments are left out, because they may be secrets.
    fn error(&self, what: std::fmt::Arguments<'_>) -> ProviderError {
        let name = &self.name;
        ProviderError::new(
            Fault::Credentials,
            format!("the program `{name}` of token_command {what}"),
        )
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running program. If it has not ended when it is dropped, it is killed with every process that it started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The process has an id until it was waited for, so the id can't belong to another process.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // An error means that the group no longer exists.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
