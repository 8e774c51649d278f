//! A contender's process: how it is started and ended, and what it used.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::{env, fs};

use tokio::process::{Child, Command};

use crate::bare_loop;
use crate::stage::{KIND, Stage, TOKEN};

pub const OTHER: &str = "USHER_BENCH_OTHER";

/// `telemetry.sample`.
const HUNDREDTH: &str = "0.01";
const ALL: &str = "1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    BareLoop,
    Usher,
    /// With traces of a hundredth of the commands, the default where a collector is configured.
    TracesHundredth,
    /// With traces of all commands.
    TracesAll,
    /// Another build of it, which `USHER_BENCH_OTHER` names.
    Other,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::BareLoop => "bare loop",
            Self::Usher => "usher",
            Self::TracesHundredth => "traces 1%",
            Self::TracesAll => "traces all",
            Self::Other => "other",
        }
    }

    /// The share of the commands that is traced, if any is.
    fn sample(self) -> Option<&'static str> {
        match self {
            Self::TracesHundredth => Some(HUNDREDTH),
            Self::TracesAll => Some(ALL),
            Self::BareLoop | Self::Usher | Self::Other => None,
        }
    }

    /// The program that declares the topology and runs; the bare loop's is declared by usher.
    pub fn program(self) -> OsString {
        match self {
            Self::Other => env::var_os(OTHER).expect("USHER_BENCH_OTHER"),
            _ => env!("CARGO_BIN_EXE_usher").into(),
        }
    }

    pub fn start(self, stage: &Stage) -> Process {
        let mut command = match self {
            Self::BareLoop => {
                let mut command = Command::new(env::current_exe().unwrap());
                command.args(["bare-loop", &stage.broker_url, &stage.provider_url]);
                command
            }
            _ => {
                let mut command = usher(&self.program(), &stage.broker_url, &stage.provider_url);
                if let Some(sample) = self.sample() {
                    command
                        .env("USHER_TELEMETRY__OTLP_ENDPOINT", &stage.collector_url)
                        .env("USHER_TELEMETRY__SAMPLE", sample);
                }
                // lapin calls it an error that an exchange is looked for and not there.
                command.arg("run").stderr(Stdio::null());
                command
            }
        };
        Process(command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap())
    }
}

/// `usher` with what its configuration must name; the rest is by default.
pub fn usher(program: &OsStr, broker_url: &str, provider_url: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .current_dir(env::temp_dir())
        .env("USHER_BROKER__URL", broker_url)
        .env("USHER_BROKER__PREFETCH", bare_loop::PREFETCH.to_string())
        .env("USHER_PROVIDER__NAME", KIND)
        .env("USHER_PROVIDER__KIND", KIND)
        .env("USHER_PROVIDER__BASE_URL", provider_url)
        .env(
            "USHER_PROVIDER__CONCURRENCY",
            bare_loop::CALLS_IN_FLIGHT.to_string(),
        )
        .env("USHER_PROVIDER__AUTH__TOKEN", TOKEN)
        // As the bare loop: at once as fast as it can, without a search for the pace.
        .env("USHER_PROVIDER__RATE__PER_SECOND", "1000000")
        .env("USHER_ADMIN__LISTEN", "127.0.0.1:0")
        // lapin calls it an error that a queue is looked for before it is declared.
        .stderr(Stdio::null());
    command
}

pub struct Process(Child);

/// What a process used since its start.
pub struct Usage {
    pub cpu_seconds: f64,
    pub peak_mib: f64,
    pub resident_mib: f64,
}

impl Process {
    pub fn usage(&self) -> Usage {
        let proc = format!("/proc/{}", self.pid());
        let status = fs::read_to_string(format!("{proc}/status")).expect("it runs");
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kib: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
            kib / 1024.0
        };
        let stat = fs::read_to_string(format!("{proc}/stat")).expect("it runs");
        // After the name in brackets; user and system time are the fields 14 and 15, in hundredths.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: f64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum();
        Usage {
            cpu_seconds: ticks / 100.0,
            peak_mib: mib("VmHWM:"),
            resident_mib: mib("VmRSS:"),
        }
    }

    /// Asks it to finish what it holds, and waits.
    pub async fn end(mut self) {
        let pid = self.pid().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(asked.unwrap().success());
        let status = self.0.wait().await.unwrap();
        assert!(status.success(), "{status}");
    }

    fn pid(&self) -> u32 {
        self.0.id().expect("it runs")
    }
}
