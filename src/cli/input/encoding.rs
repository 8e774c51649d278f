//! Text in UTF-16, as PowerShell 5 writes it with `>`, is read where it begins with a byte order mark. Without one, and
//! in the middle of a file, it is refused as a whole, and so is UTF-32: otherwise each line would be refused as
//! invalid JSON, without the cause.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

/// Encodings with more than one byte for each character of ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wide {
    Utf16Le,
    Utf16Be,
    Utf32Le,
    Utf32Be,
}

/// Whether a line is in one of these, by its byte order mark or by alternating zero bytes: JSON begins with two ASCII
/// characters, which have no zero byte in UTF-8.
pub fn recognise_wide(line: &[u8]) -> Option<Wide> {
    let ascii = |byte: u8| byte != 0 && byte.is_ascii();
    match *line {
        [0xff, 0xfe, 0, 0, ..] => Some(Wide::Utf32Le),
        [0, 0, 0xfe, 0xff, ..] => Some(Wide::Utf32Be),
        [0xff, 0xfe, ..] => Some(Wide::Utf16Le),
        [0xfe, 0xff, ..] => Some(Wide::Utf16Be),
        [a, 0, 0, 0, ..] if ascii(a) => Some(Wide::Utf32Le),
        [0, 0, 0, a, ..] if ascii(a) => Some(Wide::Utf32Be),
        // An empty line of it is cut within its end.
        [a, 0, b, 0, ..] | [a, 0, b] if ascii(a) && ascii(b) => Some(Wide::Utf16Le),
        [0, a, 0, b, ..] if ascii(a) && ascii(b) => Some(Wide::Utf16Be),
        _ => None,
    }
}

impl Wide {
    fn name(self) -> &'static str {
        match self {
            Self::Utf16Le => "UTF-16LE",
            Self::Utf16Be => "UTF-16BE",
            Self::Utf32Le => "UTF-32LE",
            Self::Utf32Be => "UTF-32BE",
        }
    }

    /// What is wrong from this line on, and how to fix the file.
    pub fn refusal(self, line: u64) -> String {
        let name = self.name();
        format!(
            "from line {line} on, this is {name}, and commands are read as UTF-8; convert the file: \
             `iconv -f {name} -t UTF-8`, or `Get-Content FILE | Set-Content -Encoding UTF8 NEW_FILE` in PowerShell"
        )
    }
}

/// The longest byte order mark.
pub const MARK_BYTES_MAX: usize = 4;

/// Whether a file that begins with these bytes is UTF-16, and whether its bytes are in big-endian order.
pub fn marked_utf16(head: &[u8]) -> Option<bool> {
    match *head {
        [0xff, 0xfe, 0, 0, ..] => None,
        [0xff, 0xfe, ..] => Some(false),
        [0xfe, 0xff, ..] => Some(true),
        _ => None,
    }
}

/// Reads UTF-16 as UTF-8, incrementally.
pub struct Utf16<R> {
    wide: R,
    big_endian: bool,
    /// The first byte of a unit whose second one was not read yet.
    half: Option<u8>,
    /// The first unit of a pair.
    high: Option<u16>,
    text: Vec<u8>,
    read: usize,
}

impl<R: AsyncBufRead + Unpin> Utf16<R> {
    pub fn new(wide: R, big_endian: bool) -> Self {
        Self {
            wide,
            big_endian,
            half: None,
            high: None,
            text: Vec::new(),
            read: 0,
        }
    }
}

impl<R> Utf16<R> {
    fn byte(&mut self, byte: u8) -> io::Result<()> {
        let Some(first) = self.half.take() else {
            self.half = Some(byte);
            return Ok(());
        };
        let unit = match self.big_endian {
            true => u16::from_be_bytes([first, byte]),
            false => u16::from_le_bytes([first, byte]),
        };
        let is_low = (0xdc00..0xe000).contains(&unit);
        let units = match (self.high.take(), unit) {
            (Some(high), low) if is_low => vec![high, low],
            (None, 0xd800..0xdc00) => {
                self.high = Some(unit);
                return Ok(());
            }
            (None, unit) if !is_low => vec![unit],
            _ => return Err(damaged()),
        };
        for letter in char::decode_utf16(units) {
            let letter = letter.map_err(|_| damaged())?;
            self.text
                .extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its text is UTF-16 that is damaged or ends too early; save it again as UTF-8",
    )
}

impl<R: AsyncBufRead + Unpin> AsyncBufRead for Utf16<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.read == this.text.len() {
            this.text.clear();
            this.read = 0;
            let wide = ready!(Pin::new(&mut this.wide).poll_fill_buf(cx))?;
            if wide.is_empty() {
                if this.half.is_some() || this.high.is_some() {
                    return Poll::Ready(Err(damaged()));
                }
                break;
            }
            // As much as one buffer of the reader has.
            let wide = wide.to_vec();
            wide.iter().try_for_each(|byte| this.byte(*byte))?;
            Pin::new(&mut this.wide).consume(wide.len());
        }
        Poll::Ready(Ok(&this.text[this.read..]))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().read += bytes;
    }
}

impl<R: AsyncBufRead + Unpin> AsyncRead for Utf16<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let text = ready!(self.as_mut().poll_fill_buf(cx))?;
        let bytes = text.len().min(into.remaining());
        into.put_slice(&text[..bytes]);
        self.consume(bytes);
        Poll::Ready(Ok(()))
    }
}
