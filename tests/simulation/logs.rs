//! What the log says of calls and of the pace: enough to tell a command's story, and no value.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde_json::Value;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use usher::contract::{Fault, Reason};

use crate::commands::{command, id};
use crate::provider::{Answer, Scripted};
use crate::world::World;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Of this thread, on which all tasks of a test on paused time run.
    fn start(&self) -> DefaultGuard {
        // Where there is one subscriber alone, whichever thread comes first to a line decides for all whether
        // it is ever said, and the other tests' threads have no subscriber.
        static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| {
            let silent = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR);
            Dispatch::new(silent.with_writer(std::io::sink).finish())
        });
        LazyLock::force(&ANOTHER);
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn lines(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["message"].as_str().unwrap().starts_with(message))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_of_a_command_is_a_line_at_debug() {
    let log = Log::default();
    let _guard = log.start();
    let throttled = Fault::Throttled {
        retry_after: Some(Duration::from_secs(2)),
    };
    let answers = [
        Answer::Fail(throttled),
        Answer::Fail(Fault::Broken),
        Answer::Fail(Fault::Command(Reason::Rejected)),
    ];
    let world = World::new(Scripted::in_turn(answers).unreadable());
    world.publish(&command(7, "u-7", true));
    world.run_to_the_end().await;
    let lines = log.lines("provider: a call");
    for line in &lines {
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(line["command.id"], id(7).to_string());
        assert_eq!(
            (&line["user.id"], &line["batch.id"]),
            (&"u-7".into(), &"batch".into())
        );
        assert!(line["call.took_ms"].is_u64());
    }
    let said: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["call.kind"].as_str().unwrap(),
                line["call.answer"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [("write", "throttled"), ("write", "broken"), ("write", "rejected")]
    );
    assert!(lines[0]["call.wait_ms"].as_u64().unwrap() >= 1900, "{}", lines[0]);
    assert_eq!(lines[1]["call.attempt"], 1);
    assert_eq!(
        (&lines[2]["call.attempt"], &lines[2]["call.wait_ms"]),
        (&2.into(), &0.into())
    );
    assert!(!lines.iter().any(|line| line.to_string().contains("nickname")));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_pace_by_more_than_a_fifth_is_logged() {
    let log = Log::default();
    let _guard = log.start();
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.rate = Some(100);
    for n in 0..3000 {
        world.publish(&command(n, &format!("u{}", n % 100), false));
    }
    let running = world.start();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(log.lines("provider: the pace").is_empty(), "it has not moved");
    let throttled = Fault::Throttled {
        retry_after: Some(Duration::from_millis(500)),
    };
    let turn = Mutex::new(0);
    world.provider.script(Box::new(move |_, _, _| {
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        match *turn % 3 {
            0 => Answer::Fail(throttled),
            _ => Answer::Ok,
        }
    }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lines = log.lines("provider: the pace");
    let first = lines.first().expect("a line");
    assert_eq!(first["level"], "INFO");
    let (from, to) = (
        first["pace.from"].as_f64().unwrap(),
        first["pace.to"].as_f64().unwrap(),
    );
    assert!(from > 90.0 && to < from * 0.8, "{first}");
    assert_eq!(first["pace.why"], "the provider throttled");
    assert!(lines.len() <= 31, "{} lines in a minute", lines.len());
    drop(running);
}
