//! README and the pages of `docs/` and `.github/`, as text.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub struct Page {
    /// From the top of the repository.
    pub name: String,
    pub text: String,
}

impl Page {
    /// Without blocks of code.
    pub fn prose(&self) -> String {
        let mut fenced = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            fenced ^= is_fence;
            if !fenced && !is_fence {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        prose
    }

    pub fn path(&self) -> PathBuf {
        root().join(&self.name)
    }
}

pub fn pages() -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    below("docs", &mut names);
    below(".github", &mut names);
    names.sort();
    names
        .into_iter()
        .map(|name| Page {
            text: fs::read_to_string(root().join(&name)).unwrap(),
            name,
        })
        .collect()
}

fn below(folder: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            below(&name, names);
        } else if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "md")
        {
            names.push(name);
        }
    }
}
