//! Where the benchmark's traces go: it reads each request to its end, and answers that it took them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Prints its address, and runs until it is killed.
pub async fn run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}

/// `None`: the client has gone.
async fn serve(mut stream: TcpStream) -> Option<()> {
    let mut bytes = vec![0; 64 * 1024];
    let mut held = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            more(&mut stream, &mut bytes, &mut held).await?;
        };
        let text = String::from_utf8_lossy(&held[..head]).to_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))?;
        let whole = head + length.trim().parse::<usize>().ok()?;
        while held.len() < whole {
            more(&mut stream, &mut bytes, &mut held).await?;
        }
        held.drain(..whole);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.ok()?;
    }
}

async fn more(stream: &mut TcpStream, bytes: &mut [u8], held: &mut Vec<u8>) -> Option<()> {
    let count = stream.read(bytes).await.ok().filter(|count| *count > 0)?;
    held.extend_from_slice(&bytes[..count]);
    Some(())
}
