//! Detects text in UTF-16 or UTF-32, as PowerShell 5 writes it with `>`. It is refused as a whole: otherwise each line
//! would be refused as invalid JSON, without the cause.

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
