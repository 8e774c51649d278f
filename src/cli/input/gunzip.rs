//! Unpacks gzip incrementally. A few bytes can unpack to a gigabyte, so only as much as is requested is unpacked.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::write::MultiGzDecoder;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

/// What a gzip file begins with.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Several members in a row are one file, as for gzip itself.
pub struct Gunzip<R> {
    packed: R,
    /// Unpacked bytes that were not read yet are in its vector, from `read` on. One `write` adds no more than fits
    /// into the decoder's own buffers, some tens of kilobytes.
    decoder: MultiGzDecoder<Vec<u8>>,
    read: usize,
}

impl<R: AsyncBufRead + Unpin> Gunzip<R> {
    pub fn new(packed: R) -> Self {
        Self {
            packed,
            decoder: MultiGzDecoder::new(Vec::new()),
            read: 0,
        }
    }
}

/// The decoder distinguishes a wrong checksum from a missing one only by its message.
fn damaged(_: io::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its gzip data is damaged or ends too early; copy it again, or pack it again (`gzip -t` checks it)",
    )
}

impl<R: AsyncBufRead + Unpin> AsyncBufRead for Gunzip<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.read == this.decoder.get_ref().len() {
            this.decoder.get_mut().clear();
            this.read = 0;
            let packed = ready!(Pin::new(&mut this.packed).poll_fill_buf(cx))?;
            if packed.is_empty() {
                this.decoder.try_finish().map_err(damaged)?;
                break;
            }
            let taken = this.decoder.write(packed).map_err(damaged)?;
            Pin::new(&mut this.packed).consume(taken);
        }
        Poll::Ready(Ok(&this.decoder.get_ref()[this.read..]))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().read += bytes;
    }
}

impl<R: AsyncBufRead + Unpin> AsyncRead for Gunzip<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unpacked = ready!(self.as_mut().poll_fill_buf(cx))?;
        let bytes = unpacked.len().min(into.remaining());
        into.put_slice(&unpacked[..bytes]);
        self.consume(bytes);
        Poll::Ready(Ok(()))
    }
}
