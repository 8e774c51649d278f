//! Which column has the keys, and what they are.

use usher::provider::FindBy;

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    pub index: usize,
    pub name: String,
    pub by: FindBy,
}

/// The kind of key that a column of this name has.
fn recognised(name: &str) -> Option<FindBy> {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    let plain: String = letters.flat_map(char::to_lowercase).collect();
    match plain.as_str() {
        "email" | "mail" | "emailaddress" => Some(FindBy::Email),
        "username" => Some(FindBy::Username),
        "externalid" => Some(FindBy::ExternalId),
        _ => None,
    }
}

impl Column {
    /// `Err`: why there is no choice. The header is not quoted: in a file without one it is users' data.
    pub fn choose(header: &[&[u8]], by: Option<FindBy>, column: Option<&str>) -> Result<Self, String> {
        let names: Vec<_> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        let is_chosen = |name: &str| match column {
            Some(column) => name == column,
            None => recognised(name).is_some_and(|kind| by.is_none_or(|by| by == kind)),
        };
        let mut chosen = names.iter().enumerate().filter(|(_, name)| is_chosen(name));
        let (index, name) = match (chosen.next(), chosen.next(), column) {
            (Some(only), None, _) => only,
            (Some(_), Some(_), Some(column)) => {
                return Err(format!("the column {column} appears twice; keep one"));
            }
            (Some(_), Some(_), None) => {
                return Err("several columns may have the keys; name one with --column NAME".to_owned());
            }
            (None, _, Some(column)) => return Err(format!("there is no column {column}")),
            (None, _, None) => {
                return Err(
                    "no column is named email, username or externalId, as the first line should say; name the column with \
                     --column NAME, and what its keys are with --by"
                        .to_owned(),
                );
            }
        };
        let by = by.or_else(|| recognised(name)).ok_or_else(|| {
            format!("what are the keys of the column {name}? Say it with --by email, username or external-id")
        })?;
        let name = name.clone();
        Ok(Self { index, name, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(header: &[&str], by: Option<FindBy>, column: Option<&str>) -> Result<(usize, FindBy), String> {
        let header: Vec<_> = header.iter().map(|name| name.as_bytes()).collect();
        Column::choose(&header, by, column).map(|column| (column.index, column.by))
    }

    #[test]
    fn the_column_is_the_one_that_is_named_or_recognised() {
        let (email, own) = (FindBy::Email, FindBy::ExternalId);
        for (header, by, column, expected) in [
            (&["n", "E-Mail"][..], None, None, (1, email)),
            (&["external_id"], None, None, (0, own)),
            (
                &["email", "username"],
                Some(FindBy::Username),
                None,
                (1, FindBy::Username),
            ),
            (&["email", "username"], None, Some("email"), (0, email)),
            (&["email", "crm"], Some(own), Some("crm"), (1, own)),
        ] {
            assert_eq!(chosen(header, by, column), Ok(expected), "{header:?}");
        }
    }

    #[test]
    fn where_there_is_no_choice_the_fix_is_named_and_no_value_is() {
        for (header, by, column, fix) in [
            (&["email", "username"][..], None, None, "--column NAME"),
            (&["alex@example.com"], None, None, "first line"),
            (&["email", "email"], None, None, "--column NAME"),
            (&["email", "email"], None, Some("email"), "keep one"),
            (&["crm"], None, Some("crm"), "--by email"),
            (&["crm"], None, Some("crn"), "no column crn"),
            (&["email"], Some(FindBy::ExternalId), None, "--column NAME"),
        ] {
            let wrong = chosen(header, by, column).unwrap_err();
            assert!(
                wrong.contains(fix) && !wrong.contains("alex"),
                "{header:?}: {wrong}"
            );
        }
    }
}
