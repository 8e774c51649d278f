//! The kinds of provider that there are adapters for, and what no kind takes from another.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{Failure, Reason, UpdateUser};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Karmo,
    Zitadel,
    Sivo,
    Mattr,
    Scim,
    Rest,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Karmo,
        Self::Zitadel,
        Self::Sivo,
        Self::Mattr,
        Self::Scim,
        Self::Rest,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Karmo => "karmo",
            Self::Zitadel => "zitadel",
            Self::Sivo => "sivo",
            Self::Mattr => "mattr",
            Self::Scim => "scim",
            Self::Rest => "rest",
        }
    }

    /// The kind's own table of what answers mean.
    pub(super) fn answers(self) -> &'static str {
        match self {
            Self::Karmo => include_str!("karmo/answers.toml"),
            Self::Zitadel => include_str!("zitadel/answers.toml"),
            Self::Sivo => include_str!("sivo/answers.toml"),
            Self::Mattr => include_str!("mattr/answers.toml"),
            Self::Scim => include_str!("scim/answers.toml"),
            Self::Rest => include_str!("rest/answers.toml"),
        }
    }

    /// Refuses the members that belong to another kind of provider.
    pub(super) fn refuse_foreign(self, command: &UpdateUser) -> Result<(), Failure> {
        let update = &command.update;
        let foreign = [
            (Self::Zitadel, update.zitadel.is_some()),
            (Self::Sivo, update.sivo.is_some()),
            (Self::Mattr, update.mattr.is_some()),
            (Self::Scim, update.scim.is_some()),
        ]
        .into_iter()
        .find(|(kind, present)| *present && *kind != self);
        match foreign {
            Some((kind, _)) => Err(Failure::new(
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

    /// Refuses a version, for kinds that check none.
    pub(super) fn refuse_version(self, command: &UpdateUser) -> Result<(), Failure> {
        match command.expected_version {
            Some(_) => Err(Failure::new(
                Reason::UnsupportedField,
                format!("providers of the kind {self} check no versions; leave `expectedVersion` out"),
            )
            .at("/expectedVersion")),
            None => Ok(()),
        }
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
