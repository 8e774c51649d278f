//! The kinds of provider that there are adapters for, and what no kind takes from another.

use std::fmt;
use std::str::FromStr;

use super::Kind;
use crate::contract::{Failure, Reason, UpdateUser};

/// Makes `Kind` of a line for each kind: its name in the code, and its module, which has the name of the configuration.
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

            /// What the simulation of the kind has of its own.
            pub(crate) fn simulated(self) -> Box<dyn shape::Shape> {
                match self {
                    $(Self::$kind => Box::new($module::Simulated::default()),)*
                }
            }

            /// The adapter that all kinds' tests are run with, set up for the simulation of the kind.
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
    /// Refuses the members that belong to another kind of provider.
    pub(super) fn refuse_foreign(self, command: &UpdateUser) -> Result<(), Failure> {
        let update = &command.update;
        match update.blocks().find(|kind| *kind != self.as_str()) {
            Some(kind) => Err(Failure::new(
                Reason::UnsupportedField,
                format!(
                    "`{kind}` is for providers of the kind {kind} and this one is of the kind {self}; leave it out, \
                     or send the command to a provider of that kind"
                ),
            )
            .at(format!("/update/{kind}"))),
            None => Ok(()),
        }
    }

    /// Refuses a version, where none is checked.
    pub(super) fn refuse_version(self, command: &UpdateUser) -> Result<(), Failure> {
        let detail = match self {
            _ if command.expected_version.is_none() => return Ok(()),
            Self::Rest => {
                "no header is configured that carries a version; leave `expectedVersion` out, or see \
                           `version_header` under [provider.rest] in the configuration"
                    .to_owned()
            }
            kind => format!("providers of the kind {kind} check no versions; leave `expectedVersion` out"),
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
    fn every_kind_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!("ldap".parse::<Kind>().unwrap_err().contains("karmo, zitadel"));
    }
}
