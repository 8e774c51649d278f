//! Links lead to files that exist, and to headings that are in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::pages::{Page, pages, root};

/// The targets of `[text](target)`, outside code.
fn targets(prose: &str) -> Vec<String> {
    // What is in code stays a text, without its brackets.
    let text: String = prose
        .split('`')
        .enumerate()
        .map(|(place, part)| match place % 2 {
            0 => part.to_owned(),
            _ => part.replace(['(', ')', '[', ']'], ""),
        })
        .collect();
    text.split("](")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap_or_default().to_owned())
        .collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &Page) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in page.prose().lines() {
        let level = line.chars().take_while(|c| *c == '#').count();
        if level == 0 || line.chars().nth(level) != Some(' ') {
            continue;
        }
        let slug: String = line[level + 1..]
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            })
            .collect();
        let again = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone())
            .chain(again)
            .find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// What is wrong with a link, if anything is.
pub fn problem(page: &Page, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file: PathBuf = match path {
        "" => page.path(),
        path => page.path().parent()?.join(path),
    };
    if !file.exists() {
        return Some("there is no such file".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let linked = Page {
        name: path.to_owned(),
        text: fs::read_to_string(&file).ok()?,
    };
    let anchors = anchors(&linked);
    (!anchors.contains(anchor)).then(|| format!("there is no such heading; there are {anchors:?}"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    let mut links = 0;
    for page in pages() {
        for target in targets(&page.prose()) {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            links += 1;
            if let Some(problem) = problem(&page, &target) {
                problems.push(format!("{}: {target}: {problem}", page.name));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(links >= 60, "only {links} links were found");
}

#[test]
fn every_page_is_in_readmes_list() {
    let all = pages();
    let readme = all.iter().find(|page| page.name == "README.md").unwrap();
    let index = all.iter().find(|page| page.name == "docs/providers.md").unwrap();
    let reached: Vec<_> = [readme, index]
        .into_iter()
        .flat_map(|page| {
            let folder = page.path().parent().unwrap().to_owned();
            targets(&page.prose())
                .into_iter()
                .map(move |target| folder.join(target))
        })
        .collect();
    for page in &all {
        let is_reached = page.name == "README.md" || reached.contains(&root().join(&page.name));
        assert!(
            is_reached,
            "neither README.md nor docs/providers.md links to {}",
            page.name
        );
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = |text: &str| Page {
        name: "docs/testing.md".to_owned(),
        text: text.to_owned(),
    };
    let own = page("# Is it well? /readyz\n## A\n```\n## B\n```\n## A\n");
    assert_eq!(
        anchors(&own).into_iter().collect::<Vec<_>>(),
        ["a", "a-1", "is-it-well-readyz"]
    );
    assert_eq!(
        targets("[a](b.md#c) `[d](e)` [`[[f]]`](g.md)"),
        ["b.md#c", "g.md"]
    );
    assert_eq!(problem(&own, "pace.md"), None);
    assert!(problem(&own, "none.md").is_some());
    assert!(problem(&own, "pace.md#none").is_some());
}

/// Files and folders of the repository that are named in code, such as `src/metrics.rs`. The pages of single providers name
/// files of other repositories, where they have their facts from.
#[test]
fn every_path_that_is_named_exists() {
    let mut missing = Vec::new();
    let mut paths = 0;
    let own = |page: &Page| !page.name.starts_with("docs/providers/rest/");
    for page in pages().into_iter().filter(own) {
        for code in page.prose().split('`').skip(1).step_by(2) {
            let is_ours = ["src/", "tests/", "schemas/", "docs/", "benches/"]
                .iter()
                .any(|folder| code.starts_with(folder));
            if !is_ours || code.contains(['<', '*', ' ']) {
                continue;
            }
            paths += 1;
            if !root().join(code).exists() {
                missing.push(format!("{}: {code}", page.name));
            }
        }
    }
    assert!(missing.is_empty(), "there are no such files: {missing:#?}");
    assert!(paths >= 20, "only {paths} paths were found");
}
