//! `--id-map`: the file that `usher resolve` wrote, read into memory.

use std::path::Path;

use anyhow::Context as _;
use usher::operations::id_map::IdMap;

use crate::cli::identity::Identity;
use crate::cli::input::{Content, Input};
use crate::cli::{counted, exit, files, note};

const COLUMNS: [&str; 2] = ["key", "userId"];

/// The map, and what identifies its content.
pub async fn read(path: &Path) -> anyhow::Result<(IdMap, Identity)> {
    let name = path.display();
    if files::is_special(path) || path.as_os_str() == "-" {
        return Err(exit::usage(format_args!(
            "--id-map {name} is no file: it is read again when a run goes on, so write it to a file first"
        )));
    }
    let identity = Identity::of(path).await?;
    let mut rows = Input::from(path.to_owned()).table().await?;
    let refused = |wrong: &str| exit::usage(format_args!("--id-map {name}: {wrong}"));
    let header = rows.header().unwrap_or_default();
    let at = |column: &str| {
        header
            .iter()
            .position(|name| name.trim_ascii() == column.as_bytes())
    };
    let [Some(key_at), Some(id_at)] = COLUMNS.map(at) else {
        return Err(refused(
            "the first line has to name the columns key and userId, as `usher resolve` writes them",
        ));
    };
    let columns = header.len();
    let mut map = IdMap::default();
    while let Some(row) = rows.next().await? {
        let line = row.line.number;
        let Content::Cells(cells) = &row.content else {
            return Err(refused(&format!(
                "line {line}: a quoted cell has no closing quote"
            )));
        };
        let cells: Vec<_> = cells.iter().map(std::str::from_utf8).collect();
        let cell = |at: usize| cells.get(at).and_then(|cell| cell.ok());
        let (Some(key), Some(user_id), true) = (cell(key_at), cell(id_at), cells.len() == columns) else {
            return Err(refused(&format!(
                "line {line}: the row has not the cells of the header, in UTF-8; was it cut off?"
            )));
        };
        map.add(line, key, user_id).map_err(|wrong| refused(&wrong))?;
    }
    let keys = u64::try_from(map.len()).context("too many keys")?;
    note(&format!("usher: {name}: the ids of {}", counted(keys, "key")));
    Ok((map, identity))
}
