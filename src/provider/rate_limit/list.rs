//! A list in a header: items separated by commas, each with its parameters, as RFC 9651 writes them.

/// `"default";r=50;t=30`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// The text before the parameters, including quotes.
    pub(super) head: &'a str,
    parameters: &'a str,
}

pub(super) fn items(line: &str) -> impl Iterator<Item = Item<'_>> {
    split(line, ',').map(|item| {
        let head = split(item, ';').next().unwrap_or_default();
        Item {
            head,
            parameters: item.strip_prefix(head).unwrap_or_default(),
        }
    })
}

impl<'a> Item<'a> {
    pub(super) fn parameter(&self, key: &str) -> Option<&'a str> {
        split(self.parameters, ';').find_map(|parameter| parameter.strip_prefix(key)?.strip_prefix('='))
    }

    /// Quotas of bytes and other units have the same form. Without a unit, requests are counted.
    pub(super) fn counts_calls(&self) -> bool {
        self.parameter("qu")
            .is_none_or(|unit| unit.trim_matches('"') == "requests")
    }
}

/// The parts between separators outside quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |c| {
        let escapes = quoted && !escaped && c == '\\';
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = escapes;
        c == separator && !quoted
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_are_ignored() {
        let line = r#""a,b;c\"d" ; r=5;t=6 , e;r=7,,"#;
        let items: Vec<_> = items(line).collect();
        let heads: Vec<_> = items.iter().map(|item| item.head).collect();
        assert_eq!(heads, [r#""a,b;c\"d""#, "e", "", ""]);
        assert_eq!(items[0].parameter("r"), Some("5"));
        assert_eq!(items[0].parameter("t"), Some("6"));
        assert_eq!(items[1].parameter("t"), None);
    }

    #[test]
    fn unclosed_quote_is_one_item() {
        let items: Vec<_> = items(r#""a;r=5, "b";r=6"#).collect();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].parameter("r"), None);
    }

    #[test]
    fn units_other_than_requests_are_recognised() {
        let counts = |line| items(line).all(|item| item.counts_calls());
        assert!(counts(r#""a";q=5;w=1, "b";q=5;qu="requests""#));
        assert!(!counts(r#""a";q=5;qu="content-bytes""#));
    }
}
