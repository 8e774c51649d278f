//! The file that was published, read once more: what it asked for the users of the sample.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use usher::contract::UserId;
use usher::operations::batch::{Asked, Book, Sample};
use usher::operations::fill::Fill;
use usher::operations::table;

use super::Verifying;
use crate::cli::exit;
use crate::cli::input::Input;
use crate::cli::publish::{Commands, read_id_map};
use crate::cli::{counted, printable, say};

/// The rows of the file.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfFile {
    /// Commands of the batch that have ended.
    pub ended: u64,
    /// Rows that are no commands.
    pub refused: u64,
    /// Commands for other providers.
    pub elsewhere: u64,
    /// Commands of which the outcome log has no end.
    pub unknown: u64,
}

impl OfFile {
    pub fn say(&self, file: &Path) {
        let file = file.display();
        for (count, what) in [
            (self.refused, "is no command, and was left out"),
            (self.elsewhere, "is for another provider, and was left out"),
            (
                self.unknown,
                "is not in the outcome log of the batch, and was left out",
            ),
        ] {
            if count > 0 {
                say(&format!("usher: {file}: {}: each {what}", counted(count, "row")));
            }
        }
    }
}

impl Verifying<'_> {
    /// Reads the file to its end, and draws the users.
    pub(super) async fn draw(
        &self,
        book: &Book,
        of_file: &mut OfFile,
    ) -> anyhow::Result<Vec<(UserId, Asked)>> {
        let args = self.args;
        let ids = match (&args.id_map, &args.map_from) {
            (Some(path), Some(column)) => Some((Arc::new(read_id_map(path).await?.0), column.clone())),
            _ => None,
        };
        let options = table::Options {
            fill: Fill {
                provider: Some(book.provider.clone()),
                batch: Some(book.batch.clone()),
            },
            null: args.null.clone(),
            id_from: args.id_from.clone(),
            ids,
        };
        let input = Input::from(self.file.clone());
        let (mut rows, name) = (input.rows().await?, input.name());
        let commands = Commands::new(options, false, &rows, &name)?;
        if let Some(note) = &rows.note {
            crate::cli::note(&format!("usher: {note}"));
        }
        if let files @ 2.. = book.announced.files() {
            say(&format!(
                "usher: the batch has {files} files, and {name} is one of them: what another file changed later differs"
            ));
        }
        let mut sample = Sample::new(&book.batch, self.amount, self.provider.merges_updates());
        while let Some(row) = rows.next().await? {
            let Ok(ready) = commands.read(&row) else {
                of_file.refused += 1;
                continue;
            };
            if ready.command.provider != book.provider {
                of_file.elsewhere += 1;
            } else if let Some(ended) = book.tally.ended(ready.command.id) {
                of_file.ended += 1;
                sample.take(ready.command, ended).map_err(exit::usage)?;
            } else {
                of_file.unknown += 1;
            }
        }
        let users = sample.into_users();
        let id = printable(book.batch.as_str());
        match (users.is_empty(), of_file.ended) {
            (false, _) => Ok(users),
            (true, 0) => Err(exit::usage(format_args!(
                "{name} has no command that the outcome log knows of the batch {id}: is it the file that was published, and are \
                 --id-from, --id-map, --map-from and --null as they were then?"
            ))),
            (true, _) => Err(exit::usage(format_args!(
                "no user was drawn whose commands succeeded: ask for more, such as --verify 100"
            ))),
        }
    }
}
