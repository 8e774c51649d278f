//! Rows as messages, or why they are refused.

use usher::broker::topology::{COMMANDS, COMMANDS_BULK};
use usher::broker::{Message, Properties, SHORT_TEXT_BYTES_MAX};
use usher::clock::Clock;
use usher::contract::{Failure, Reason, UpdateUser, decode};
use usher::operations::fill::Fill;
use usher::operations::table::{Options, Table};

use crate::cli::exit;
use crate::cli::input::{Content, Row, Rows};

/// How the rows of one input become commands.
pub struct Commands {
    table: Option<Table>,
    fill: Fill,
    bulk: bool,
}

pub struct Ready {
    pub command: UpdateUser,
    pub message: Message,
}

impl Commands {
    /// Refuses a header that is none of commands.
    pub fn new(options: Options, bulk: bool, rows: &Rows, name: &str) -> anyhow::Result<Self> {
        let fill = options.fill.clone();
        let table = match rows.header() {
            Some(header) => {
                let table = Table::new(&header, options);
                Some(table.map_err(|wrong| exit::usage(format_args!("{name}: the header: {wrong}")))?)
            }
            None if !rows.is_empty() && options.is_for_csv() => {
                return Err(exit::usage(format_args!(
                    "{name} holds JSON lines, and --id-from, --null and --id-map are for CSV: leave them out; JSON has ids and \
                     null of its own"
                )));
            }
            None => None,
        };
        Ok(Self { table, fill, bulk })
    }

    pub fn read(&self, row: &Row) -> Result<Ready, Failure> {
        let body = match (&row.content, &self.table) {
            (Content::Cells(cells), Some(table)) => table.command(&cells.iter().collect::<Vec<_>>())?,
            (Content::Unclosed, _) => {
                let detail = "a quoted cell has no closing quote; close it, and double the quotes within it";
                return Err(Failure::new(Reason::Undecodable, detail));
            }
            _ => self.fill.line(&row.line.text).into_owned(),
        };
        let command = decode(&body)?;
        Ok(Ready {
            message: self.message(&command, body)?,
            command,
        })
    }

    fn message(&self, command: &UpdateUser, body: Vec<u8>) -> Result<Message, Failure> {
        let routing_key = format!("{}.{}", command.provider, command.user_id);
        if routing_key.len() > SHORT_TEXT_BYTES_MAX {
            let (bytes, most) = (
                command.user_id.as_str().len(),
                user_id_bytes_max(command.provider.as_str()),
            );
            let detail = format!(
                "it has {bytes} bytes in UTF-8, and {most} are the most that can be published for this provider: a \
                 routing key has {SHORT_TEXT_BYTES_MAX}, its name and a dot included"
            );
            return Err(Failure::new(Reason::Invalid, detail).at("/userId"));
        }
        // How long it took is counted from here, where the command doesn't say when it was issued.
        let now = u64::try_from(Clock::System.now().as_second()).unwrap_or(0);
        let id = command.id.to_string();
        Ok(Message {
            exchange: if self.bulk { COMMANDS_BULK } else { COMMANDS }.into(),
            routing_key,
            properties: Properties::persistent(&id, "application/json").with_timestamp(now),
            body: body.into(),
            mandatory: false,
        })
    }

    /// The column that the refusal is about.
    pub fn column(&self, failure: &Failure) -> Option<&str> {
        let pointer = failure.pointer.as_deref()?;
        self.table.as_ref()?.column_at(pointer)
    }
}

/// The longest user id, in bytes, that fits into a routing key.
pub fn user_id_bytes_max(provider: &str) -> usize {
    SHORT_TEXT_BYTES_MAX - provider.len() - 1
}
