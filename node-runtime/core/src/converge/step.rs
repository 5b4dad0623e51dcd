//! [`Step`]: one thing to do.

use control::{AppKey, RevisionId};

/// One thing a runtime must do to get from what runs to what should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Blobs may be missing. Nothing else about this revision may start before they are here.
    Fetch {
        /// Whose.
        app: AppKey,
        /// Which.
        revision: RevisionId,
    },
    /// Compile and link, off the serving path. A failure is reported; what runs keeps running.
    Prepare {
        /// Whose.
        app: AppKey,
        /// Which.
        revision: RevisionId,
        /// Whether it must pass a check before it is ready.
        gated: bool,
    },
    /// See whether what was prepared answers as it must. A failure is reported; what runs keeps running.
    Check {
        /// Whose.
        app: AppKey,
        /// Which.
        revision: RevisionId,
    },
    /// Listen on the app's port: something is ready to be served there.
    Bind {
        /// Whose.
        app: AppKey,
        /// The TCP port.
        port: u16,
    },
    /// Route new requests to `revision`. One pointer swap; requests in flight are untouched.
    Switch {
        /// Whose.
        app: AppKey,
        /// To which.
        revision: RevisionId,
    },
    /// Answer no new requests, although what answered them is kept.
    Stop {
        /// Whose.
        app: AppKey,
    },
    /// Take no new requests, finish old ones, then forget. Ends a fetch, preparation or check too.
    Drain {
        /// Whose.
        app: AppKey,
        /// Which.
        revision: RevisionId,
    },
    /// Take no new connections on the port, finish the old ones' requests.
    Unbind {
        /// Whose.
        app: AppKey,
        /// The TCP port.
        port: u16,
    },
    /// Nothing of the app is left.
    Forget {
        /// Whose.
        app: AppKey,
    },
}

impl Step {
    /// Whose step it is.
    #[must_use]
    pub const fn app(&self) -> &AppKey {
        match self {
            Self::Fetch { app, .. }
            | Self::Prepare { app, .. }
            | Self::Check { app, .. }
            | Self::Bind { app, .. }
            | Self::Switch { app, .. }
            | Self::Drain { app, .. }
            | Self::Unbind { app, .. }
            | Self::Stop { app }
            | Self::Forget { app } => app,
        }
    }
}
