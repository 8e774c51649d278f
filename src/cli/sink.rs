//! Writes lines to a file or to stdout on a separate thread: a blocked write (a reader that stalls, a disk that hangs)
//! delays what waits for it, but not the handling of signals.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use usher::broker::Message;
use usher::broker::memory::Sink;

/// The most lines that wait to be written.
const WAITING_MAX: usize = 256;

pub const STDOUT: &str = "stdout";

/// Why no more can be written. It ends the run: without outcomes no call may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    name: String,
    kind: ErrorKind,
    reason: String,
}

impl Broken {
    /// Whether the reader of stdout has closed the pipe.
    pub fn is_closed_stdout(&self) -> bool {
        self.name == STDOUT && self.kind == ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reason, .. } = self;
        let next = match name == STDOUT {
            true => "name a file with --outcomes, so that a second run can continue where this one ended",
            false => "fix the cause, and run it again with the same files to continue",
        };
        write!(f, "{name} can't be written: {reason}; {next}")
    }
}

/// Where the first failure of several sinks is published.
pub type Failure = watch::Sender<Option<Broken>>;

/// Formats a message as a line. `None`: the file has it already.
pub type Form = Box<dyn Fn(&Message) -> io::Result<Option<Vec<u8>>> + Send + Sync>;

/// Writes each message as a line. The broker confirms a message once it is written.
pub struct LineSink {
    form: Form,
    lines: mpsc::Sender<Waiting>,
}

struct Waiting {
    line: Vec<u8>,
    written: oneshot::Sender<Result<(), ErrorKind>>,
}

impl LineSink {
    pub fn start(
        name: String,
        out: Box<dyn Write + Send>,
        form: Form,
        failure: Failure,
    ) -> io::Result<Arc<Self>> {
        let (lines, waiting) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("usher-lines".to_owned())
            .spawn(move || write_all(&name, out, waiting, &failure))?;
        Ok(Arc::new(Self { form, lines }))
    }
}

#[async_trait]
impl Sink for LineSink {
    async fn accept(&self, message: &Message) -> io::Result<()> {
        let Some(mut line) = (self.form)(message)? else {
            return Ok(());
        };
        line.push(b'\n');
        let (sender, written) = oneshot::channel();
        let waiting = Waiting {
            line,
            written: sender,
        };
        let gone = || io::Error::from(ErrorKind::BrokenPipe);
        self.lines.send(waiting).await.map_err(|_| gone())?;
        Ok(written.await.map_err(|_| gone())??)
    }
}

/// Writes until all senders are gone. After a failure nothing is written: the last line may be incomplete.
fn write_all(
    name: &str,
    mut out: Box<dyn Write + Send>,
    mut waiting: mpsc::Receiver<Waiting>,
    failure: &Failure,
) {
    let (mut taken, mut lines) = (Vec::new(), Vec::new());
    while waiting.blocking_recv_many(&mut taken, WAITING_MAX) > 0 {
        lines.clear();
        for one in &taken {
            lines.extend_from_slice(&one.line);
        }
        let written = out.write_all(&lines).and_then(|()| out.flush());
        if let Err(error) = &written {
            failure.send_if_modified(|broken| {
                let first = broken.is_none();
                broken.get_or_insert_with(|| Broken {
                    name: name.to_owned(),
                    kind: error.kind(),
                    reason: error.to_string(),
                });
                first
            });
        }
        let result = written.map_err(|error| error.kind());
        for one in taken.drain(..) {
            // An error means that the sender no longer waits.
            let _ = one.written.send(result);
        }
        if result.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use usher::broker::Properties;

    use super::*;

    /// Takes so many bytes.
    struct Disk(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap();
            let room = self.1 - written.len();
            if room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = room.min(bytes.len());
            written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn message(body: &'static str) -> Message {
        Message {
            exchange: String::new(),
            routing_key: String::new(),
            properties: Properties::default(),
            body: body.into(),
            mandatory: false,
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_once_by_name_and_ends_the_writing() {
        let (written, failure) = (Arc::default(), watch::Sender::new(None));
        let disk = Box::new(Disk(Arc::clone(&written), 7));
        let form: Form = Box::new(|message: &Message| Ok(Some(message.body.to_vec())));
        let sink = LineSink::start("out.jsonl".to_owned(), disk, form, failure.clone()).unwrap();
        sink.accept(&message("abc")).await.unwrap();
        for _ in 0..3 {
            assert!(sink.accept(&message("defg")).await.is_err());
        }
        assert_eq!(written.lock().unwrap().as_slice(), b"abc\ndef");
        let broken = failure.borrow().clone().unwrap();
        assert!(!broken.is_closed_stdout());
        let said = broken.to_string();
        assert!(
            said.starts_with("out.jsonl can't be written: no storage space"),
            "{said}"
        );
    }
}
