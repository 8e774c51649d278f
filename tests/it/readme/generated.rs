//! What the pages have from the code: the table of keys, and examples.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::pages::{Page, pages, root};
use crate::process::Folder;

const BEGIN: &str = "<!-- generated from ";
const END: &str = "<!-- end of generated -->\n";

/// The page, with each part between the marks made anew.
fn renewed(page: &Page) -> String {
    let mut text = String::new();
    let mut rest = page.text.as_str();
    while let Some(at) = rest.find(BEGIN) {
        let head = at + rest[at..].find(" -->\n").unwrap() + " -->\n".len();
        let source = &rest[at + BEGIN.len()..head - " -->\n".len()];
        text.push_str(&rest[..head]);
        text.push_str(&part(source));
        rest = &rest[head..];
        rest = &rest[rest.find(END).unwrap()..];
    }
    text + rest
}

fn part(source: &str) -> String {
    if source == "schemas/config.json" {
        return keys(&usher::config::schema().to_value());
    }
    if source == "src/operations/findings/list.rs" {
        return format!("\n{}", usher::operations::findings::sections());
    }
    if source == "src/metrics/table.rs" {
        return format!("\n{}\n", usher::metrics::table::table());
    }
    let json = fs::read_to_string(root().join(source)).unwrap();
    format!("\n```json\n{}\n```\n\n", json.trim_end())
}

#[test]
fn the_generated_parts_are_what_the_code_says() {
    let mut parts = 0;
    for page in pages() {
        let text = renewed(&page);
        parts += text.matches(BEGIN).count();
        if std::env::var_os("USHER_TEST_BLESS").is_some() && text != page.text {
            fs::write(page.path(), &text).unwrap();
            continue;
        }
        assert!(
            text == page.text,
            "{} is not what the code says. Where the change is meant, run this test with USHER_TEST_BLESS=1 and look at \
             the difference before you commit it",
            page.name
        );
    }
    assert!(parts >= 5, "only {parts} generated parts were found");
}

/// A heading and a table for each table of the configuration.
fn keys(schema: &Value) -> String {
    let mut sections = Vec::new();
    for name in [
        "broker",
        "provider",
        "retry",
        "worker",
        "admin",
        "console",
        "log",
        "telemetry",
    ] {
        let table = &schema["properties"][name];
        collect(schema, name, resolved(schema, table), &mut sections);
    }
    let mut text = String::from("\n");
    for (heading, rows) in sections {
        let _ = writeln!(text, "### {heading}\n");
        text.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        text.push_str(&rows);
        text.push('\n');
    }
    text
}

fn resolved<'s>(schema: &'s Value, value: &'s Value) -> &'s Value {
    match value["$ref"].as_str() {
        Some(reference) => resolved(schema, schema.pointer(reference.trim_start_matches('#')).unwrap()),
        None => value,
    }
}

/// How the keys of a table of its own are written.
#[derive(PartialEq)]
enum Form {
    /// Always as a table, which its heading says.
    Table,
    /// As one table, or as a list of them.
    Several,
    /// As a list of tables.
    List,
}

/// A table of keys that is a section of its own. The names of fields are the same everywhere, and explained once.
fn subtable<'s>(schema: &'s Value, value: &'s Value) -> Option<(&'s Value, Form)> {
    let of = resolved(schema, value);
    let is_table = |of: &Value| of["properties"].is_object() && value["$ref"] != "#/$defs/FieldNames";
    if is_table(of) {
        return Some((of, Form::Table));
    }
    let forms = of["oneOf"].as_array().into_iter().flatten().chain([of]);
    let item = forms
        .map(|form| resolved(schema, &form["items"]))
        .find(|item| is_table(item))?;
    let form = match of["type"] == "array" {
        true => Form::List,
        false => Form::Several,
    };
    Some((item, form))
}

fn collect(schema: &Value, path: &str, table: &Value, sections: &mut Vec<(String, String)>) {
    let place = sections.len();
    sections.push((format!("[{path}]"), String::new()));
    let mut rows = String::new();
    for (name, value) in table["properties"].as_object().unwrap() {
        let key = format!("{path}.{name}");
        let below = subtable(schema, value);
        if !matches!(below, Some((_, Form::Table))) {
            rows.push_str(&row(schema, &key, value, table, name));
        }
        if let Some((of, form)) = below {
            let first = sections.len();
            collect(schema, &key, of, sections);
            if form == Form::List {
                sections[first].0 = format!("[[{key}]]");
            }
        }
    }
    sections[place].1 = rows;
}

fn row(schema: &Value, key: &str, value: &Value, table: &Value, name: &str) -> String {
    let of = resolved(schema, value);
    let required = table["required"]
        .as_array()
        .is_some_and(|names| names.contains(&name.into()));
    let default = match (&value["default"], required) {
        (Value::Null, true) => "required".to_owned(),
        (Value::Null, false) => String::new(),
        (default, _) => format!("`{default}`"),
    };
    let own = value["description"].as_str().or(of["description"].as_str());
    let mut meaning = without_default(own.unwrap_or_default(), &value["default"]).to_owned();
    for form in of["oneOf"].as_array().into_iter().flatten() {
        if let (Some(text), Some(word)) = (form["description"].as_str(), form["const"].as_str()) {
            let _ = write!(meaning, " `{word}`: {text}");
        }
    }
    format!(
        "| `{key}` | {} | {} | {} |\n",
        cell(&values(schema, value)),
        cell(&default),
        cell(meaning.trim())
    )
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Without a last sentence that repeats the default, which has a column.
fn without_default<'t>(text: &'t str, default: &Value) -> &'t str {
    let word = default
        .as_str()
        .map_or_else(|| default.to_string(), str::to_owned);
    let word = word.strip_suffix(".0").unwrap_or(&word);
    [format!(" Default: {word}."), format!(" Default: `{word}`.")]
        .iter()
        .find_map(|sentence| text.strip_suffix(sentence))
        .unwrap_or(text)
}

/// What a key may be, in a few words.
fn values(schema: &Value, value: &Value) -> String {
    let of = resolved(schema, value);
    let pointer = value["$ref"].as_str().unwrap_or_default();
    let known = BTreeMap::from([
        ("#/$defs/FieldNames", "a table: a name for each field"),
        ("#/$defs/Rates", "a quota, or a list of quotas"),
        (
            "#/$defs/Statuses",
            "a status, a class, a range, or a list of these",
        ),
        ("#/$defs/HeadersWritten", "a text, or a list of texts"),
        ("#/$defs/BrokerUrls", "an address, or a list of addresses"),
        ("#/$defs/Scalar", "a text, a whole number or a boolean"),
    ]);
    if let Some(words) = known.get(pointer) {
        return (*words).to_owned();
    }
    for (mark, kind) in [("x-duration", "duration"), ("x-age", "age")] {
        if let (Some(least), Some(most)) = (of[mark]["minimum"].as_str(), of[mark]["maximum"].as_str()) {
            return format!("{kind}, {least} to {most}");
        }
    }
    let words = words(schema, of);
    if !words.is_empty() {
        return words.join(", ");
    }
    match of["type"].as_str().unwrap_or_default() {
        "integer" | "number" => format!("{} to {}", of["minimum"], of["maximum"]),
        "boolean" => "`true`, `false`".to_owned(),
        "array" => match values(schema, &of["items"]) {
            one if one.contains('`') => format!("a list of {one}"),
            one => format!("a list of {}s", one.trim_start_matches("a ")),
        },
        "object" => "a table".to_owned(),
        "string" => "a text".to_owned(),
        _ => panic!("{value} needs a word here"),
    }
}

/// The words that a closed list has.
fn words(schema: &Value, of: &Value) -> Vec<String> {
    let forms = ["oneOf", "anyOf"]
        .into_iter()
        .filter_map(|several| of[several].as_array())
        .flatten();
    let named = of["enum"].as_array().into_iter().flatten();
    let single = of["const"].as_str().map(|word| format!("`{word}`"));
    let nested = forms.flat_map(|form| words(schema, resolved(schema, form)));
    let direct = named.filter_map(Value::as_str).map(|word| format!("`{word}`"));
    direct.chain(single).chain(nested).collect()
}

#[test]
fn the_example_loads_and_shows_the_defaults() {
    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let example = text
        .split("```toml\n")
        .find(|block| block.starts_with("[broker]"))
        .and_then(|block| block.split("```").next())
        .unwrap();
    let folder = Folder::new();
    let file = folder.write("usher.toml", example);
    if let Err(error) = usher::config::load(Some(file.as_ref()), []) {
        panic!("{error}");
    }
    let schema = usher::config::schema().to_value();
    let shown: Value = toml::from_str::<toml::Value>(example)
        .unwrap()
        .try_into()
        .unwrap();
    let mut compared = 0;
    for (name, value) in shown.as_object().unwrap() {
        let table = resolved(&schema, &schema["properties"][name]);
        compared += compare(&schema, name, table, value);
    }
    assert!(compared >= 30, "only {compared} defaults were compared");
}

fn compare(schema: &Value, path: &str, table: &Value, shown: &Value) -> usize {
    let mut compared = 0;
    for (name, value) in shown.as_object().unwrap() {
        let key = format!("{path}.{name}");
        let of = &table["properties"][name];
        if value.is_object() && resolved(schema, of)["properties"].is_object() {
            compared += compare(schema, &key, resolved(schema, of), value);
        } else if !of["default"].is_null() {
            assert_eq!(value, &of["default"], "{key}");
            compared += 1;
        }
    }
    compared
}
