//! The trace context of the W3C, as the header `traceparent` carries it.

use std::fmt;

/// Whether the sender records its part of the trace.
const SAMPLED: u8 = 1;

/// A span, as others name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub trace_id: u128,
    pub span_id: u64,
    pub flags: u8,
}

impl Context {
    /// The root of a new trace, which is recorded.
    pub fn root() -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: fastrand::u64(1..),
            flags: SAMPLED,
        }
    }

    /// A new span of the same trace.
    pub fn child(self) -> Self {
        Self {
            span_id: fastrand::u64(1..),
            ..self
        }
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// `None` for a text that breaks the form. Later versions may append to it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let context = Self {
            trace_id: hex(parts.next()?, 32)?,
            span_id: u64::try_from(hex(parts.next()?, 16)?).ok()?,
            flags: u8::try_from(hex(parts.next()?, 2)?).ok()?,
        };
        let ends = parts.next().is_none();
        let is_known = version == 0 && ends || (1..0xff).contains(&version);
        (is_known && context.trace_id != 0 && context.span_id != 0).then_some(context)
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_hex)).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        let context = Context::parse(HEADER).unwrap();
        assert_eq!(context.to_string(), HEADER);
        assert!(context.is_sampled());
        let child = context.child();
        assert_eq!((child.trace_id, child.flags), (context.trace_id, context.flags));
        assert_ne!(child.span_id, context.span_id);
        assert!(Context::root().is_sampled());
    }

    #[test]
    fn only_the_form_of_the_w3c_is_a_context() {
        let id = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        for unsampled in [format!("00-{id}-00"), format!("00-{id}-02")] {
            assert!(!Context::parse(&unsampled).unwrap().is_sampled(), "{unsampled}");
        }
        assert!(Context::parse(&format!("01-{id}-01-more")).is_some());
        for broken in [
            "",
            "00",
            &format!("ff-{id}-01"),
            &format!("00-{id}-01-more"),
            &format!("00-{id}-1"),
            &format!("00-{id}-0G"),
            &format!("+0-{id}-01"),
            &HEADER.to_uppercase(),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(Context::parse(broken), None, "{broken}");
        }
    }
}
