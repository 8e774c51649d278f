//! A collector of traces on this machine, that keeps what it gets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It is gone once this is dropped.
pub struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    requests: Mutex<Vec<(String, ExportTraceServiceRequest)>>,
    refuses: AtomicBool,
    refused: AtomicUsize,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::new(Kept::default());
        let serving = tokio::spawn({
            let kept = kept.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let kept = kept.clone();
                    tokio::spawn(async move { kept.serve(stream).await });
                }
            }
        });
        Self {
            address,
            kept,
            serving,
        }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether it answers with a refusal from now on.
    pub fn refuse(&self, refuses: bool) {
        self.kept.refuses.store(refuses, Ordering::Release);
    }

    pub fn refused(&self) -> usize {
        self.kept.refused.load(Ordering::Acquire)
    }

    /// The heads of all requests, in lower case.
    pub fn heads(&self) -> Vec<String> {
        let requests = self.kept.requests.lock().unwrap();
        requests.iter().map(|(head, _)| head.clone()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let requests = self.kept.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|(_, request)| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Everything that it got but ids and times, whose digits could be anything.
    pub fn said(&self) -> Vec<String> {
        let requests = self.kept.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|(_, request)| &request.resource_spans);
        let of_resources: Vec<_> = resources
            .map(|resource| format!("{:?} {:?}", resource.resource, resource.schema_url))
            .collect();
        drop(requests);
        let of_span = |span: &Span| {
            let Span {
                name,
                attributes,
                events,
                links,
                status,
                trace_state,
                ..
            } = span;
            format!("{name} {attributes:?} {events:?} {links:?} {status:?} {trace_state}")
        };
        let of_spans = self.spans();
        of_resources
            .into_iter()
            .chain(of_spans.iter().map(of_span))
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Kept {
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let (head, body) = request(&mut stream).await?;
            let status = match self.refuses.load(Ordering::Acquire) {
                true => {
                    self.refused.fetch_add(1, Ordering::AcqRel);
                    "400 Bad Request"
                }
                false => {
                    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
                    self.requests.lock().unwrap().push((head, request));
                    "200 OK"
                }
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

/// The head in lower case, and the body.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// An attribute as a text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    Some(match found.value.clone()?.value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    })
}
