//! The pages of the documentation, and the code blocks in them.

use std::{fs, path::Path};

use crate::outputs::root;

/// A page.
pub(super) struct Page {
    /// Below the checkout.
    pub(super) path: String,
    pub(super) text: String,
}

/// A code block of a page.
pub(super) struct Block {
    /// Page and line, for whoever must correct it.
    pub(super) place: String,
    pub(super) language: String,
    pub(super) text: String,
}

/// Directories that hold nothing of ours, or nothing that people read.
const PASSED_BY: [&str; 3] = ["target", "node_modules", "golden"];

/// Every page.
pub(super) fn pages() -> Vec<Page> {
    let pages = files(".md");
    assert!(pages.len() > 50, "{} pages", pages.len());
    pages
}

/// Every file of the checkout whose name ends so.
pub(super) fn files(ending: &str) -> Vec<Page> {
    let mut found = Vec::new();
    collect(&root(), ending, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, ending: &str, found: &mut Vec<Page>) {
    for entry in fs::read_dir(dir).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        if name.starts_with('.') || PASSED_BY.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, ending, found);
        } else if name.ends_with(ending) {
            let below = path.strip_prefix(root()).unwrap().display().to_string();
            found.push(Page { path: below, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

impl Page {
    /// Its code blocks.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (line, text) in (1..).zip(self.text.lines()) {
            match text.strip_prefix("```") {
                Some(language) if !open => {
                    let (place, language) = (format!("{}:{line}", self.path), language.trim().to_owned());
                    blocks.push(Block { place, language, text: String::new() });
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    if let Some(block) = blocks.last_mut() {
                        block.text.extend([text, "\n"]);
                    }
                }
                None => {}
            }
        }
        assert!(!open, "{}: a code block has no end", self.path);
        blocks
    }

    /// Its lines that are not in code blocks.
    pub(super) fn prose(&self) -> impl Iterator<Item = &str> {
        let mut open = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.starts_with("```");
            open ^= is_fence;
            !open && !is_fence
        })
    }
}

/// What stands between backticks in `text`.
pub(super) fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
