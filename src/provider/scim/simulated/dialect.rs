//! How SCIM servers differ, as RFC 7644 leaves them the choice or as public documents have it.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScimDialect {
    /// As scim2-server does: removing what is not there is a success.
    #[default]
    Lenient,
    /// Each refusal that RFC 7644 allows: to remove or replace what is not there is `noTarget` (section 3.5.2 and table 9).
    Strict,
    /// As Microsoft Entra ID wants of a server: `op` in any case, `active` as a word, ids that are GUIDs, a path with a
    /// filter that makes its entry, PATCH answered with 204. It keeps no versions.
    Entra,
    /// PATCH, which is optional, is answered with 501 (section 3.12).
    PutOnly,
    /// A path with a filter in it is `invalidPath`.
    NoValuePaths,
    /// An entry of a list has a value and nothing else, and `/Schemas` says so; canaille does so.
    ValueOnly,
}

impl ScimDialect {
    pub const ALL: [Self; 6] = [
        Self::Lenient,
        Self::Strict,
        Self::Entra,
        Self::PutOnly,
        Self::NoValuePaths,
        Self::ValueOnly,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lenient => "lenient",
            Self::Strict => "strict",
            Self::Entra => "entra",
            Self::PutOnly => "put-only",
            Self::NoValuePaths => "no-value-paths",
            Self::ValueOnly => "value-only",
        }
    }

    pub(super) fn has_patch(self) -> bool {
        self != Self::PutOnly
    }

    /// The members of an entry of a list.
    pub(super) fn entry(self) -> &'static [&'static str] {
        match self {
            Self::ValueOnly => &["value"],
            _ => &["value", "display", "type", "primary"],
        }
    }

    pub(super) fn has_versions(self) -> bool {
        self != Self::Entra
    }
}

impl fmt::Display for ScimDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ScimDialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|dialect| dialect.as_str() == text);
        found.ok_or_else(|| format!("write one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
