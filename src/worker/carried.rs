//! The trace context that messages carry.

use crate::broker::{Header, Properties};
use crate::traces::Headers;

/// As it was received, whatever its form.
pub(super) fn received(properties: &Properties) -> Option<Headers> {
    Headers::read(|name| properties.header_text(name))
}

/// As it was received, to be handed on, if it is well-formed.
pub(super) fn handed_on(properties: &Properties) -> Option<Headers> {
    let has_form = |text: &str| text.len() == 55 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    received(properties).filter(|headers| has_form(&headers.traceparent))
}

/// The headers for a message.
pub(super) fn by(context: Option<&Headers>) -> impl Iterator<Item = (String, Header)> {
    let pairs = context.into_iter().flat_map(Headers::pairs);
    pairs.map(|(name, text)| (name.to_owned(), Header::Text(text.to_owned())))
}
