//! The program as its users run it: processes with a configuration, a signal, an exit code.

use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A process that runs longer than this by itself, or drains for longer, never ends.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is set in the environment of a process, as `USHER_…` without the prefix.
#[derive(Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    pub fn with(mut self, key: &str, value: &dyn ToString) -> Self {
        self.0.push((format!("USHER_{key}"), value.to_string()));
        self
    }

    /// What is no key of the configuration.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        let name = format!("USHER_{key}");
        self.0.retain(|(set, _)| *set != name);
        self
    }

    /// As the environment of a process that a test starts by itself.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.0.iter().map(|(key, value)| (key, value)))
            .current_dir(std::env::temp_dir())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        Self::ended(self.command(arguments), arguments, input).await
    }

    /// The same, where it may hold so many files and connections open.
    pub async fn run_with_descriptors(&self, count: u32, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_usher"))
            .args(arguments)
            .env_clear()
            .envs(self.0.iter().map(|(key, value)| (key, value)))
            .current_dir(std::env::temp_dir())
            .kill_on_drop(true);
        Self::ended(command, arguments, b"").await
    }

    async fn ended(mut command: Command, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end without reading all of it.
        let writing = tokio::spawn(async move { stdin.write_all(&input).await });
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("no end after {PATIENCE:?}: usher {arguments:?}"))
            .unwrap();
        let _ = writing.await.unwrap();
        output
    }

    /// Runs a script in which `"$USHER"` is the program.
    pub async fn script(&self, script: &str) -> Output {
        let mut bash = Command::new("bash");
        bash.args(["-c", script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("USHER", env!("CARGO_BIN_EXE_usher"))
            .envs(self.0.iter().map(|(key, value)| (key, value)))
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = timeout(PATIENCE, bash.output()).await;
        ended
            .unwrap_or_else(|_| panic!("no end after {PATIENCE:?}: {script}"))
            .unwrap()
    }

    pub fn start(&self, arguments: &[&str]) -> Process {
        self.start_between(Stdio::null(), arguments, Stdio::null())
    }

    pub fn start_between(&self, input: Stdio, arguments: &[&str], output: Stdio) -> Process {
        let mut child = self
            .command(arguments)
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = tokio::spawn(async move {
            let mut said = String::new();
            stderr.read_to_string(&mut said).await.unwrap();
            said
        });
        Process { child, said }
    }
}

pub struct Process {
    child: Child,
    said: JoinHandle<String>,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .await;
        assert!(sent.unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its exit status, and what it said on stderr.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            self.child.kill().await.unwrap();
            panic!("no end after {PATIENCE:?}: {}", self.said.await.unwrap());
        };
        (status.unwrap(), self.said.await.unwrap())
    }

    /// SIGTERM, and the exit code that says it drained.
    pub async fn drained(self) -> String {
        self.signal("TERM").await;
        let (status, said) = self.ended().await;
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }

    pub async fn killed(self) {
        self.signal("KILL").await;
        self.ended().await;
    }
}

/// A folder of the test's own, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("usher-test-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
