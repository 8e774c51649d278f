//! The calls that a command needs. Only PATCH clears a phone; only PUT clears a nickname or a gender. What the
//! configured call can't do is sent in a second one, after the rest.

use std::borrow::Cow;

use super::{Api, body};
use crate::contract::extension::{Gender, ZitadelUpdate};
use crate::contract::{Change, Field, Update};

/// One call, and the changes that it writes.
pub(super) struct Part<'u> {
    pub(super) api: Api,
    pub(super) update: Cow<'u, Update>,
}

impl Part<'_> {
    /// Whether it needs the names of the user that was read.
    pub(super) fn needs_user(&self) -> bool {
        let named = |field| self.update.shared(field).is_some();
        self.api == Api::Put
            && body::has_profile(&self.update)
            && !(named(Field::GivenName) && named(Field::FamilyName))
    }
}

/// Whether the configured call can't do everything.
fn needs_two_calls(api: Api, update: &Update) -> bool {
    match api {
        Api::Put => update.phone == Some(Change::Clear),
        Api::Patch => update.nickname == Some(Change::Clear) || clears_gender(update),
    }
}

/// One call, or two.
pub(super) fn parts(api: Api, update: &Update) -> Vec<Part<'_>> {
    if !needs_two_calls(api, update) {
        return vec![Part {
            api,
            update: Cow::Borrowed(update),
        }];
    }
    let (mut main, mut other) = (update.clone(), Update::default());
    match api {
        Api::Put => {
            if main.phone == Some(Change::Clear) {
                other.phone = main.phone.take();
            }
        }
        Api::Patch => {
            if main.nickname == Some(Change::Clear) {
                other.nickname = main.nickname.take();
            }
            if clears_gender(update) {
                let gender = main.zitadel.as_mut().and_then(|own| own.gender.take());
                other.zitadel = Some(ZitadelUpdate {
                    gender,
                    ..ZitadelUpdate::default()
                });
            }
            if !other.field_names().is_empty() {
                // The names that were read before the first call may be outdated.
                other.given_name = main.given_name.clone();
                other.family_name = main.family_name.clone();
            }
        }
    }
    let another = match api {
        Api::Put => Api::Patch,
        Api::Patch => Api::Put,
    };
    let mut parts = vec![
        Part {
            api,
            update: Cow::Owned(main),
        },
        Part {
            api: another,
            update: Cow::Owned(other),
        },
    ];
    parts.retain(|part| !part.update.field_names().is_empty());
    parts
}

pub(super) fn clears_gender(update: &Update) -> bool {
    let gender = update.zitadel.as_ref().and_then(|own| own.gender);
    gender == Some(Gender::Unspecified)
}
