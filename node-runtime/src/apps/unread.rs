//! Words that this build cannot read: those of an operator that is newer than this runtime.
//!
//! Promise: what there is of the app goes on, and the operator is told why it is not what was asked for, until it says
//! something about the app that can be read, or has said everything on a new stream and this no more.

use control::{AppKey, AppReport, Problem, Unreadable};
use node_runtime_core::converge::report_unreadable;

use super::Owner;

/// Why a word could not be read, in one word: the operator's reference has it.
const REASON: &str = "RuntimeTooOld";

/// A word about an app that could not be read.
#[derive(Debug)]
pub(super) struct Unread {
    word: Unreadable,
    number: u64,
    problem: Problem,
}

impl Unread {
    fn new(word: Unreadable, number: u64) -> Self {
        let message = format!(
            "node-runtime {} cannot read what the operator tells it of the app ({}), and goes on with what it has of it: update the node-runtime pods.",
            env!("CARGO_PKG_VERSION"),
            word.why
        );
        Self { word, number, problem: Problem { reason: REASON.to_owned(), message, retrying: false } }
    }

    /// What is said of the app instead of what is true of what the runtime `has` of it.
    pub(super) fn report(&self, app: &AppKey, has: Option<AppReport>) -> AppReport {
        report_unreadable(has, app, &self.word, &self.problem)
    }
}

impl Owner {
    /// The word of this number cannot be read.
    pub(super) fn pass_over(&mut self, word: Unreadable, number: u64) {
        let Some(app) = word.app.clone() else { return };
        let is_another = |uid: &String| self.desired.get(&app).is_some_and(|wanted| wanted.assignment.uid != *uid);
        if word.uid.as_ref().is_some_and(is_another) {
            // Deleted and made again: nobody wants the one that there is.
            self.remove(app.clone());
        }
        self.words.insert(app.clone(), number);
        self.unread.insert(app.clone(), Unread::new(word, number));
        self.agenda.now.insert(app);
    }

    /// Everything that differs has been said after the word `after`: what could not be read before is not wanted any more.
    pub(super) fn forget_unread(&mut self, after: u64) {
        let old = self.unread.extract_if(.., |_, unread| unread.number <= after).map(|(app, _)| app);
        for app in old.collect::<Vec<_>>() {
            if !self.desired.contains_key(&app) {
                self.words.remove(&app);
            }
            self.agenda.now.insert(app);
        }
    }
}
