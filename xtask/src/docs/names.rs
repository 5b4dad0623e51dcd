//! What the documentation names: other pages, tests, files, chart values, reasons.

use std::collections::BTreeSet;

use operator_api::{REASONS_OF_RUNTIMES, REASONS_OF_SOURCES, Reason};
use serde_json::Value;

use super::pages::{Page, code, files, pages};
use crate::outputs::root;

/// What a heading is called in links: as on GitHub.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(page: &Page) -> BTreeSet<String> {
    page.prose().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = pages();
    for page in &pages {
        let links =
            page.prose().flat_map(|line| line.split("](").skip(1)).filter_map(|rest| Some(rest.split_once(')')?.0));
        for link in links.filter(|link| !link.contains("://")) {
            let (path, place) = link.split_once('#').map_or((link, None), |(path, place)| (path, Some(place)));
            let here = root().join(&page.path);
            let target = if path.is_empty() { here } else { here.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.path);
            let target = target.canonicalize().unwrap();
            if let Some(place) = place {
                let found =
                    pages.iter().find(|page| root().join(&page.path).canonicalize().unwrap() == target).unwrap();
                assert!(anchors(found).contains(place), "{}: {link}", page.path);
            }
        }
    }
}

/// The one page with this path.
fn page(path: &str) -> Page {
    pages().into_iter().find(|page| page.path == path).unwrap()
}

#[test]
fn every_test_and_every_path_that_the_architecture_names_exists() {
    let architecture = page("ARCHITECTURE.md");
    let sources = files(".rs");
    let is_name =
        |word: &&str| word.len() > 20 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let tests: BTreeSet<&str> = architecture.prose().flat_map(code).filter(is_name).collect();
    assert!(tests.len() > 50, "{} tests", tests.len());
    for test in tests {
        let declared = format!("fn {test}(");
        assert!(sources.iter().any(|source| source.text.contains(&declared)), "there is no test {test}");
    }
    let map = architecture.prose().skip_while(|line| *line != "## The map").take_while(|line| *line != "## Words");
    let paths: Vec<&str> = map
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" |"))
        .flat_map(|(cell, _)| cell.split('`'))
        .collect();
    let paths: Vec<&str> =
        paths.into_iter().filter(|path| path.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "there is no {path}");
    }
}

#[test]
fn every_chart_value_that_a_page_names_exists() {
    let chart = std::fs::read_to_string(root().join("charts/spindle/values.yaml")).unwrap();
    let chart: Value = serde_yaml::from_str(&chart).unwrap();
    let mut count = 0;
    for page in pages() {
        for word in page.prose().flat_map(code) {
            let path = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next().unwrap_or_default();
            let mut parts = path.split('.');
            let part = parts.next().and_then(|first| chart.get(first));
            // `operator.md` is a page, and not every word with a dot is a value.
            let Some(part) = part.filter(|_| path.contains('.') && !path.ends_with(".md")) else { continue };
            // Below what is empty by default is what Kubernetes has there.
            let found = parts.try_fold(part, |part, name| {
                if part.as_object().is_some_and(|members| !members.is_empty()) { part.get(name) } else { Some(part) }
            });
            assert!(found.is_some(), "{}: the chart has no value {path}", page.path);
            count += 1;
        }
    }
    assert!(count > 50, "{count} values");
}

/// Where reasons come from that the operator passes on.
const GIVING_REASONS: [&str; 10] = [
    "crates/sources/src/bindle/error.rs",
    "crates/sources/src/store.rs",
    "node-runtime/src/apps/carry.rs",
    "node-runtime/src/apps/check.rs",
    "node-runtime/src/apps/jobs.rs",
    "node-runtime/src/apps/unread.rs",
    "node-runtime/src/engine/builder.rs",
    "node-runtime/src/loader.rs",
    "operator/src/inputs.rs",
    "operator/src/resolve.rs",
];

/// What only `spindle bindle push` meets.
const OF_PUSHES: &str = "AlreadyExists";

/// The words that `source` gives as reasons.
fn given(source: &str) -> BTreeSet<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let marks = ["=> \"", "reason: \"", "fault(\"", "REASON: &str = \""];
    let words = marks.iter().flat_map(|mark| code.split(mark).skip(1)).filter_map(|rest| Some(rest.split_once('"')?.0));
    words
        .filter(|word| {
            word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic())
        })
        .collect()
}

#[test]
fn every_reason_that_is_passed_on_is_in_the_reference_and_no_other() {
    let sources = files(".rs");
    let text = |path: &str| &sources.iter().find(|source| source.path == path).unwrap().text;
    let given: BTreeSet<&str> = GIVING_REASONS.iter().flat_map(|path| given(text(path))).collect();
    let listed: BTreeSet<&str> =
        REASONS_OF_SOURCES.iter().chain(REASONS_OF_RUNTIMES).map(|(reason, _)| *reason).collect();
    let own: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let missing: Vec<&&str> =
        given.iter().filter(|reason| !listed.contains(*reason) && !own.contains(*reason)).collect();
    assert_eq!(missing, [&OF_PUSHES]);
    assert_eq!(listed.difference(&given).collect::<Vec<_>>(), Vec::<&&str>::new(), "nobody gives these");
}

/// The names of interfaces that are in `source`.
fn interfaces(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let is_name = |text: &&str| {
        let package = ["fermyon:spin/", "spin:", "wasi:keyvalue/", "wasi:config/"]
            .iter()
            .find(|package| text.starts_with(**package));
        package.is_some_and(|package| text.len() > package.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ":/@.-".contains(c))
    };
    // A resource has its interface's name before its own.
    let of_resource = |text: &'_ str| {
        text.rsplit_once('.').filter(|(_, own)| own.starts_with(|c: char| c.is_ascii_alphabetic())).is_some()
    };
    code.split('"').skip(1).step_by(2).filter(is_name).filter(move |text| !of_resource(text))
}

#[test]
fn every_interface_of_spin_that_guests_may_import_is_in_the_reference() {
    let guests = page("docs/reference/guests.md");
    let sources = files(".rs");
    let host = sources
        .iter()
        .filter(|source| source.path.starts_with("node-runtime/src/host/") && !source.path.ends_with("tests.rs"));
    let found: BTreeSet<&str> = host.flat_map(|source| interfaces(&source.text)).collect();
    assert!(found.len() > 30, "{found:?}");
    for interface in found {
        assert!(guests.text.contains(&format!("`{interface}`")), "{interface} is not in {}", guests.path);
    }
}

#[test]
fn every_flag_in_an_example_of_our_commands_is_in_the_reference() {
    let reference = page("docs/reference/flags.md").text;
    let mut count = 0;
    for block in pages().iter().flat_map(Page::blocks) {
        let commands = block.text.lines().map(|line| line.trim_start_matches("$ ")).filter(|line| {
            ["spindle ", "bindle-server ", "kubectl spindle "].iter().any(|command| line.starts_with(command))
        });
        for word in commands.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")) {
            let flag = word.split('=').next().unwrap_or_default();
            assert!(reference.contains(&format!("`{flag}")), "{}: {word}", block.place);
            count += 1;
        }
    }
    assert!(count > 10, "{count} flags");
}

#[test]
fn every_row_of_a_table_has_the_cells_of_its_head() {
    for page in pages() {
        let mut head = None;
        for line in page.prose() {
            // A `|` in a cell is written with a backslash, in code as well.
            let bars = line.starts_with('|').then(|| line.replace("\\|", "").matches('|').count());
            assert!(bars.is_none() || head.is_none() || bars == head, "{}: {line}", page.path);
            head = bars.and(head.or(bars));
        }
    }
}

#[test]
fn every_page_is_in_the_index_of_its_directory() {
    let pages = pages();
    for index in pages.iter().filter(|page| page.path.starts_with("docs/") && page.path.ends_with("/README.md")) {
        let directory = index.path.trim_end_matches("README.md");
        let names =
            pages.iter().filter_map(|page| page.path.strip_prefix(directory)).filter(|name| *name != "README.md");
        for name in names {
            assert!(index.text.contains(&format!("]({name})")), "{name} is not in {}", index.path);
        }
    }
}
