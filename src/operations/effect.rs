//! What publishing a file will do to users, before it is done: the fields, and what providers may do in consequence.

use std::collections::BTreeMap;

use crate::contract::extension::Verification;
use crate::contract::{Change, Field, Update, UpdateUser};

/// Fields whose change reaches users: it may send them messages or end their sessions.
pub const GUARDED: [Field; 3] = [Field::Email, Field::Phone, Field::Username];

/// What commands do together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    pub commands: u64,
    /// How many of them each provider gets.
    pub providers: BTreeMap<String, u64>,
    fields: BTreeMap<&'static str, Count>,
    emails: u64,
    texts: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    set: u64,
    cleared: u64,
}

impl Effect {
    pub fn add(&mut self, command: &UpdateUser) {
        self.commands += 1;
        *self.providers.entry(command.provider.to_string()).or_default() += 1;
        let update = &command.update;
        let cleared = cleared(update);
        for name in update.field_names() {
            let count = self.fields.entry(name).or_default();
            match cleared.contains(&name) {
                true => count.cleared += 1,
                false => count.set += 1,
            }
        }
        let is_set = |field| matches!(update.shared(field), Some(Some(_)));
        let zitadel = update.zitadel.as_ref();
        let email = zitadel.and_then(|block| block.email_verification.as_ref());
        let phone = zitadel.and_then(|block| block.phone_verification.as_ref());
        self.emails += u64::from(is_set(Field::Email) && email.is_none_or(is_sent));
        self.texts += u64::from(is_set(Field::Phone) && phone.is_none_or(is_sent));
    }

    /// How many commands change the field.
    pub fn changes(&self, field: Field) -> u64 {
        let count = self.fields.get(field.name()).copied().unwrap_or_default();
        count.set + count.cleared
    }

    /// For a person to read, one thing a line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (provider, commands) in &self.providers {
            lines.push(format!("{provider}: {}", counted(*commands, "command")));
        }
        for (verb, of) in [
            ("sets", Count::set as fn(&Count) -> u64),
            ("clears", Count::cleared),
        ] {
            let fields: Vec<_> = self
                .fields
                .iter()
                .filter(|(_, count)| of(count) > 0)
                .map(|(name, count)| format!("{name} in {}", of(count)))
                .collect();
            if !fields.is_empty() {
                lines.push(format!("{verb} {}", fields.join(", ")));
            }
        }
        if self.emails > 0 {
            lines.push(format!(
                "users may be sent up to {}",
                counted(self.emails, "verification e-mail")
            ));
        }
        if self.texts > 0 {
            lines.push(format!(
                "users may be sent up to {}",
                counted(self.texts, "text message")
            ));
        }
        let usernames = self.changes(Field::Username);
        if usernames > 0 {
            lines.push(format!(
                "the sessions of up to {} may end: a user name changes",
                counted(usernames, "user")
            ));
        }
        lines
    }
}

impl Count {
    fn set(&self) -> u64 {
        self.set
    }

    fn cleared(&self) -> u64 {
        self.cleared
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Whether the provider sends the user something.
fn is_sent<S>(verification: &Verification<S>) -> bool {
    matches!(verification, Verification::SendCode(_))
}

/// The names of the fields that are cleared.
fn cleared(update: &Update) -> Vec<&'static str> {
    fn is_clear<T>(change: Option<&Change<T>>) -> bool {
        matches!(change, Some(Change::Clear))
    }
    let shared = update.shared_changes().filter(|(_, value)| value.is_none());
    let mut names: Vec<_> = shared.map(|(field, _)| field.name()).collect();
    if let Some(scim) = &update.scim {
        let fields = [
            ("scim.externalId", &scim.external_id),
            ("scim.title", &scim.title),
            ("scim.userType", &scim.user_type),
            ("scim.preferredLanguage", &scim.preferred_language),
            ("scim.timezone", &scim.timezone),
            ("scim.profileUrl", &scim.profile_url),
        ];
        names.extend(
            fields
                .iter()
                .filter(|(_, change)| is_clear(change.as_ref()))
                .map(|(name, _)| *name),
        );
    }
    names.extend(update.sivo.iter().flat_map(|sivo| sivo.cleared()));
    names
}

/// Such as `email,phone`.
pub fn names(fields: impl IntoIterator<Item = Field>) -> String {
    let names: Vec<_> = fields.into_iter().map(Field::name).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::decode;

    fn effect(updates: &[&str]) -> Effect {
        let mut effect = Effect::default();
        for update in updates {
            let command = format!(
                r#"{{"id":"018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e","provider":"p","userId":"u","update":{update}}}"#
            );
            effect.add(&decode(command.as_bytes()).unwrap());
        }
        effect
    }

    #[test]
    fn fields_are_counted_by_name_as_set_and_as_cleared() {
        let effect = effect(&[
            r#"{"email":"a@b.example","nickname":null,"scim":{"title":null,"active":false}}"#,
            r#"{"nickname":"x","sivo":{"lists":null,"team":"t"}}"#,
        ]);
        assert_eq!(
            effect.lines(),
            [
                "p: 2 commands",
                "sets email in 1, nickname in 1, scim.active in 1, sivo.team in 1",
                "clears nickname in 1, scim.title in 1, sivo.lists in 1",
                "users may be sent up to 1 verification e-mail",
            ]
        );
    }

    #[test]
    fn messages_are_counted_where_the_provider_may_send_them() {
        let effect = effect(&[
            r#"{"email":"a@b.example","phone":"+61412345678"}"#,
            r#"{"email":null,"phone":null,"username":"u"}"#,
            r#"{"email":"a@b.example","zitadel":{"emailVerification":{"verified":true}}}"#,
            r#"{"email":"a@b.example","zitadel":{"emailVerification":{"returnCode":{}}}}"#,
            r#"{"email":"a@b.example","zitadel":{"emailVerification":{"sendCode":{}}}}"#,
            r#"{"phone":"+61412345678","zitadel":{"phoneVerification":{"verified":true}}}"#,
        ]);
        assert_eq!((effect.emails, effect.texts), (2, 1));
        let changes = GUARDED.map(|field| effect.changes(field));
        assert_eq!(changes, [5, 3, 1]);
        let lines = effect.lines().join("\n");
        assert!(lines.contains("the sessions of up to 1 user may end"), "{lines}");
    }
}
