//! Files as editors, shells and archives leave them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use uuid::Uuid;

use super::encoding::{Wide, recognise_wide};
use super::*;

/// A file that is gone with the test.
pub struct Kept(PathBuf);

impl Kept {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("usher-input-{}-{name}", Uuid::new_v4()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    pub fn input(&self) -> Input {
        Input::from(self.0.clone())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The lines with their numbers, or why the file is refused.
async fn lines(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
    let file = Kept::new("", bytes);
    let mut lines = file.input().open().await.unwrap();
    let mut read = Vec::new();
    loop {
        match lines.next().await {
            Ok(Some(line)) => read.push((line.number, String::from_utf8(line.text).unwrap())),
            Ok(None) => return Ok(read),
            Err(error) => return Err(format!("{error:#}")),
        }
    }
}

pub fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn two() -> Vec<(u64, String)> {
    vec![(1, "{\"a\":1}".into()), (2, "{\"b\":2}".into())]
}

#[tokio::test]
async fn byte_order_marks_crlf_and_blank_lines_are_stripped() {
    for (text, numbers) in [
        ("{\"a\":1}\n{\"b\":2}", [1, 2]),
        ("{\"a\":1}\n{\"b\":2}\n", [1, 2]),
        ("\u{feff}{\"a\":1}\r\n{\"b\":2}\r\n", [1, 2]),
        ("\u{feff}{\"a\":1}\r\n\u{feff}{\"b\":2}\r\n\r\n", [1, 2]),
        ("\u{feff}\u{feff}{\"a\":1}\n \n\u{feff}\n{\"b\":2}\n \n\n", [1, 4]),
    ] {
        let read = lines(text.as_bytes()).await.unwrap();
        let expected: Vec<_> = two()
            .into_iter()
            .zip(numbers)
            .map(|((_, line), n)| (n, line))
            .collect();
        assert_eq!(read, expected, "{text:?}");
        assert_eq!(
            lines(&packed(text.as_bytes())).await.unwrap(),
            expected,
            "{text:?}"
        );
    }
    for blank in ["", "\n", "\u{feff}", "\u{feff}\r\n"] {
        assert_eq!(lines(blank.as_bytes()).await, Ok(Vec::new()), "{blank:?}");
    }
}

#[tokio::test]
async fn joined_gzip_files_are_one_file() {
    let joined = [
        packed(b"{\"a\":1}\n"),
        packed(b""),
        packed(b"\xef\xbb\xbf{\"b\":2}\n"),
    ]
    .concat();
    assert_eq!(lines(&joined).await, Ok(two()));
    // The second begins in the middle of a line.
    let joined = [packed(b"{\"a\":1}\n{\"b"), packed(b"\":2}\n")].concat();
    assert_eq!(lines(&joined).await, Ok(two()));
}

#[tokio::test]
async fn gzip_of_many_pieces_is_unpacked_whole() {
    let line = |n: u32| format!("{{\"n\":{n},\"x\":{}}}", n.wrapping_mul(2_654_435_761));
    let text: String = (0..40_000).map(|n| line(n) + "\n").collect();
    let read = lines(&packed(text.as_bytes())).await.unwrap();
    assert_eq!(read.len(), 40_000);
    assert_eq!(read[39_999], (40_000, line(39_999)));
}

#[tokio::test]
async fn gzip_that_is_cut_off_or_damaged_is_one_error() {
    let whole = packed("{\"a\":1}\n".repeat(20_000).as_bytes());
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    let mut summed = whole.clone();
    *summed.last_mut().unwrap() ^= 1;
    for broken in [
        &whole[..2],
        &whole[..9],
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1],
        &damaged,
        &summed,
        &[&whole[..], b"{\"b\":2}\n"].concat(),
    ] {
        let refused = lines(broken).await.unwrap_err();
        assert!(
            refused.contains("gzip data is damaged or ends too early"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_line_that_unpacks_to_more_than_any_command_is_refused() {
    // 64 MiB in 64 KiB.
    let refused = lines(&packed(&vec![b' '; 64 << 20])).await.unwrap_err();
    assert!(refused.contains("line 1 is longer than any command"), "{refused}");
}

#[tokio::test]
async fn wide_characters_without_a_mark_are_refused_by_name_with_the_way_to_convert_them() {
    let text = "{\"a\":1}\r\n";
    let wide: Vec<u16> = text.encode_utf16().collect();
    let le: Vec<u8> = wide.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let be: Vec<u8> = wide.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for marked in [[b"\xff\xfe", &le[..]].concat(), [b"\xfe\xff", &be[..]].concat()] {
        assert_eq!(lines(&marked).await, Ok(vec![(1, "{\"a\":1}".to_owned())]));
    }
    let utf32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    for (file, name, line) in [
        (le.clone(), "UTF-16LE", 1),
        (be.clone(), "UTF-16BE", 1),
        (utf32, "UTF-32LE", 1),
        (packed(&le), "UTF-16LE", 1),
        // What `>>` adds to a file in UTF-8.
        ([text.as_bytes(), &le[..]].concat(), "UTF-16LE", 2),
    ] {
        let refused = lines(&file).await.unwrap_err();
        assert!(
            refused.contains(&format!("from line {line} on, this is {name}")),
            "{refused}"
        );
        assert!(
            refused.contains(&format!("`iconv -f {name} -t UTF-8`")),
            "{refused}"
        );
    }
}

#[test]
fn binary_input_is_not_taken_for_utf_16() {
    for line in [
        &b""[..],
        b"{",
        b"\0",
        b"\0\0\0\0",
        b"{\0",
        b"{\"a\0\":1}",
        b"{\0\"a",
        b"no JSON",
    ] {
        assert_eq!(recognise_wide(line), None, "{line:?}");
    }
    assert_eq!(recognise_wide(b"\r\0\n"), Some(Wide::Utf16Le));
}
