//! [`Link`]: one runtime, as a leader knows it.

use std::{collections::BTreeMap, sync::Arc};

use control::{AppKey, AppReport, Assignment};
use jiff::Timestamp;
use operator_core::{Contact, mailbox::Mailbox, view::Holding};

/// One runtime, as a leader knows it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) uid: String,
    pub(crate) mailbox: Mailbox,
    pub(crate) state: LinkState,
    pub(crate) session: Option<u64>,
    pub(crate) version: Option<u32>,
    pub(crate) capacity: u32,
    pub(crate) draining: bool,
    pub(crate) reports: BTreeMap<AppKey, AppReport>,
    pub(crate) rollouts: BTreeMap<AppKey, Arc<Assignment>>,
    pub(crate) unreviewed: bool,
}

/// How things stand with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Never(Timestamp),
    Connected,
    Lost(Timestamp),
}

impl Link {
    pub(crate) fn new(uid: String, since: Timestamp) -> Self {
        Self {
            uid,
            mailbox: Mailbox::default(),
            state: LinkState::Never(since),
            session: None,
            version: None,
            capacity: 0,
            draining: false,
            reports: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            unreviewed: false,
        }
    }

    pub(crate) fn contact(&self, app: &AppKey) -> Contact {
        let holding = || Holding {
            draining: self.draining,
            assigned: self.mailbox.told(app),
            parting: self.mailbox.is_parting(app),
            report: self.reports.get(app).filter(|report| self.mailbox.believes(report)).cloned(),
            rollout: self.rollouts.get(app).cloned(),
        };
        match self.state {
            LinkState::Never(since) => Contact::Never { since },
            LinkState::Connected => Contact::Connected(holding()),
            LinkState::Lost(since) => Contact::Lost { since, holding: holding() },
        }
    }
}
