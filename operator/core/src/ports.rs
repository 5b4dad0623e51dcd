//! Decides which port an app has.
//!
//! Promise: an app keeps the port that its status has; no two apps have the same; the same uids claiming in
//! the same order get the same ports. The [`Book`] is one per operator, so that two apps that are reconciled
//! at the same time cannot be given the same port.

use std::collections::BTreeMap;

use manifest::Digest;
use operator_api::names::{HIGHEST_APP_PORT, LOWEST_APP_PORT};

/// Who has which port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    owners: BTreeMap<u16, String>,
    ports: BTreeMap<String, u16>,
}

impl Book {
    /// The port of the app `uid`; `None` when all are taken.
    ///
    /// `status` is the port that the app's status has. It is given unless somebody else has it, so after a
    /// start every app with a port in its status must claim before any app without one does.
    pub fn claim(&mut self, uid: &str, status: Option<i32>) -> Option<u16> {
        if let Some(port) = self.ports.get(uid) {
            return Some(*port);
        }
        let known = status.and_then(|port| u16::try_from(port).ok()).filter(|port| in_range(*port));
        let free = |port: &u16| !self.owners.contains_key(port);
        let port = known.filter(free).or_else(|| candidates(uid).find(free))?;
        self.owners.insert(port, uid.to_owned());
        self.ports.insert(uid.to_owned(), port);
        Some(port)
    }

    /// Gives back the port of an app that is gone.
    pub fn release(&mut self, uid: &str) {
        if let Some(port) = self.ports.remove(uid) {
            self.owners.remove(&port);
        }
    }

    /// How many apps have a port.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether no app has a port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

const fn in_range(port: u16) -> bool {
    LOWEST_APP_PORT <= port && port <= HIGHEST_APP_PORT
}

/// Every port once, from one that depends on the uid alone.
fn candidates(uid: &str) -> impl Iterator<Item = u16> {
    let hex = Digest::of(uid.as_bytes()).short();
    let hash = u64::from_str_radix(&hex, 16).unwrap_or_default();
    let count = u64::from(HIGHEST_APP_PORT - LOWEST_APP_PORT) + 1;
    let start = u16::try_from(hash % count).unwrap_or_default() + LOWEST_APP_PORT;
    (start..=HIGHEST_APP_PORT).chain(LOWEST_APP_PORT..start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn app_keeps_the_port_of_its_status() {
        let mut book = Book::default();
        assert_eq!(book.claim("a", Some(12_000)), Some(12_000));
        assert_eq!(book.claim("a", None), Some(12_000));
    }

    #[test]
    fn port_that_another_app_has_is_not_given_twice() {
        let mut book = Book::default();
        book.claim("a", Some(12_000));
        let other = book.claim("b", Some(12_000));
        assert!(other.is_some() && other != Some(12_000));
    }

    #[test]
    fn port_outside_the_range_is_replaced() {
        for bad in [0, -1, 80, 9_999, 32_768, 70_000] {
            assert!(in_range(Book::default().claim("a", Some(bad)).unwrap()));
        }
    }

    #[test]
    fn port_of_an_app_that_is_gone_is_given_again() {
        let mut book = Book::default();
        let port = book.claim("a", None).unwrap();
        book.release("a");
        assert_eq!(book.claim("b", Some(i32::from(port))), Some(port));
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn full_book_gives_none() {
        let mut book = Book::default();
        for number in 0..22_768 {
            assert!(book.claim(&format!("uid-{number}"), None).is_some(), "{number}");
        }
        assert_eq!(book.claim("one more", None), None);
    }

    proptest! {
        #[test]
        fn no_two_apps_have_the_same_port(claims in prop::collection::vec(("[a-f]{1,3}", prop::option::of(9_990..10_020_i32)), 1..80)) {
            let mut book = Book::default();
            for (uid, status) in &claims {
                prop_assert!(in_range(book.claim(uid, *status).unwrap()));
            }
            let ports: std::collections::BTreeSet<u16> = claims.iter().map(|(uid, _)| book.claim(uid, None).unwrap()).collect();
            prop_assert_eq!(ports.len(), book.len());
        }
    }
}
