//! How SCIM servers differ, within the choices of RFC 7644 or according to public documents.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScimDialect {
    /// Like scim2-server: removing a value that does not exist succeeds.
    #[default]
    Lenient,
    /// Makes every refusal that RFC 7644 allows: removing or replacing a value that does not exist is `noTarget`
    /// (section 3.5.2 and table 9).
    Strict,
    /// What Microsoft Entra ID expects of a server: `op` in any case, `active` as a word, ids that are GUIDs, a path
    /// with a filter that creates its entry, PATCH answered with 204. It keeps no versions.
    Entra,
    /// PATCH, which is optional, is answered with 501 (section 3.12).
    PutOnly,
    /// A path with a filter in it is `invalidPath`.
    NoValuePaths,
    /// An entry of a list has only a value, and `/Schemas` says so, as in canaille.
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
