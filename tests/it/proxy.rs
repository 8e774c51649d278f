//! A TCP proxy before the broker that can cut what goes through it, or hold it up.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

pub struct Proxy {
    pub port: u16,
    cut: Arc<watch::Sender<u64>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(broker: String) -> Self {
        Self::slow_to(broker, Duration::ZERO).await
    }

    /// What the broker sends arrives so much later.
    pub async fn slow_to(broker: String, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(watch::Sender::new(0));
        let cuts = cut.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                let broker = broker.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(broker).await else {
                        return;
                    };
                    let (mut from_client, to_client) = client.into_split();
                    let (from_server, mut to_server) = server.into_split();
                    tokio::select! {
                        _ = cut.changed() => {}
                        _ = copy(&mut from_client, &mut to_server) => {}
                        () = copy_later(from_server, to_client, delay) => {}
                    }
                });
            }
        });
        Self { port, cut, accepting }
    }

    /// Ends every connection that goes through; new ones are let through.
    pub fn sever(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Nothing goes through any more, and nothing new is let in.
    pub async fn end(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.sever();
    }
}

/// Until one of them ends; what has come by then still arrives.
async fn copy_later(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut piece = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::now() + delay;
            if sender.send((due, piece[..length].to_vec())).is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
