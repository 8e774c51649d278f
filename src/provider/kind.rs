//! The kinds of provider that have an adapter, and the checks on commands that all kinds share.

use std::fmt;
use std::str::FromStr;

use super::Kind;
use crate::contract::{Failure, Reason, UpdateUser};

/// Defines `Kind` from a line per kind: its variant, and its module, which has the kind's name in the configuration.
macro_rules! kinds {
    ($($kind:ident = $module:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            pub const ALL: [Self; [$(Self::$kind),*].len()] = [$(Self::$kind),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($module),)*
                }
            }

            /// The kind's own table of what answers mean.
            fn answers(self) -> &'static str {
                match self {
                    $(Self::$kind => $module::ANSWERS,)*
                }
            }

            /// The simulation of the kind.
            pub(crate) fn simulated(self) -> Box<dyn shape::Shape> {
                match self {
                    $(Self::$kind => Box::new($module::Simulated::default()),)*
                }
            }

            /// The adapter under test for the kind, configured for its simulation.
            #[cfg(test)]
            fn tested(self, http: http::Http) -> std::sync::Arc<dyn Provider> {
                match self {
                    $(Self::$kind => std::sync::Arc::new($module::tests::tested(http)),)*
                }
            }
        }
    };
}

pub(super) use kinds;

impl Kind {
    /// Refuses a block that is for another kind of provider.
    pub(super) fn check_blocks(self, command: &UpdateUser) -> Result<(), Failure> {
        let update = &command.update;
        match update.blocks().find(|kind| *kind != self.as_str()) {
            Some(kind) => Err(Failure::new(
                Reason::UnsupportedField,
                format!(
                   "`{kind}` is for providers of the kind {kind} and this one is of the kind {self}; omit it, \
                     or send the command to a provider of that kind"
                ),
            )
            .at(format!("/update/{kind}"))),
            None => Ok(()),
        }
    }

    /// Refuses a version, because the provider checks none.
    pub(super) fn check_no_version(self, command: &UpdateUser) -> Result<(), Failure> {
        let detail = match self {
            _ if command.expected_version.is_none() => return Ok(()),
            Self::Rest => "no header is configured for the version; omit `expectedVersion`, or see \
                 `version_header` under [provider.rest] in the configuration"
                .to_owned(),
            kind => format!("providers of the kind {kind} do not check versions; omit `expectedVersion`"),
        };
        Err(Failure::new(Reason::UnsupportedField, detail).at("/expectedVersion"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "no such kind; use one of {}",
                    Self::ALL.map(Self::as_str).join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!("ldap".parse::<Kind>().unwrap_err().contains("karmo, zitadel"));
    }
}
