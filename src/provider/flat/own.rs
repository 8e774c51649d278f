//! The fields of a kind's own block: sent and compared as they were written, at the top of the user.

use crate::contract::extension::{SivoField, SivoUpdate};
use crate::contract::{Failure, Json, Reason, Update};
use crate::provider::User;
use crate::provider::field_map::FieldMap;
use crate::provider::members::Members;

/// The fields that the provider takes, for the kind sivo.
#[derive(Default)]
pub(in crate::provider) struct OwnFields(pub(in crate::provider) Vec<SivoField>);

impl OwnFields {
    /// Refuses fields that the configuration does not list, and those that a shared field of the command sets already.
    pub(super) fn check(&self, update: &Update, fields: &FieldMap) -> Result<(), Failure> {
        for (field, _) in changes(update) {
            let name = field.name();
            if !self.0.contains(&field) {
                let detail = format!(
                    "this provider is not configured to write `{name}`, because it is not known whether Sivo accepts it; omit \
                     it, or add `{name}` to `writable` in [provider.sivo]"
                );
                return Err(Failure::new(Reason::UnsupportedField, detail).at(field.pointer()));
            }
            if let Some(shared) = fields.field(name)
                && update.shared(shared).is_some()
            {
                let detail = format!(
                    "`{name}` and `{}` set the same member at this provider; keep one of the two",
                    shared.name()
                );
                return Err(Failure::new(Reason::Invalid, detail).at(field.pointer()));
            }
        }
        Ok(())
    }

    pub(super) fn put<'a>(&self, update: &'a Update, mut body: Members<'a>) -> Members<'a> {
        for (field, value) in changes(update) {
            body.set_raw(field.name(), value.raw());
        }
        body
    }

    pub(super) fn matches(&self, update: &Update, user: &User) -> bool {
        let mut changes = changes(update).peekable();
        if changes.peek().is_none() {
            return true;
        }
        let members = user.0.as_str().map(Members::parse);
        let Some(Ok(members)) = members else { return false };
        changes.all(|(field, value)| members.has_raw(field.name(), value.raw()))
    }
}

fn changes(update: &Update) -> impl Iterator<Item = (SivoField, &Json)> {
    update.sivo.iter().flat_map(SivoUpdate::changes)
}
