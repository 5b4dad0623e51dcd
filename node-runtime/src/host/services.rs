//! [`Services`]: what the components of one revision share: stores, pools of connections, clients.

use std::{path::PathBuf, sync::Arc};

use manifest::{RuntimeConfig, runtime_config::Directory};

use crate::engine::RevisionSettings;

/// Made once when the revision is built, and gone when its last request has ended.
///
/// Nothing is opened or connected here: that is for the first guest that asks, so that a database that is down fails calls
/// and not the revision.
#[derive(Debug)]
pub(crate) struct Services {
    config: Arc<RuntimeConfig>,
    state_dir: Option<PathBuf>,
}

impl Services {
    /// The services that `settings` describe.
    pub(crate) fn new(settings: &RevisionSettings) -> Self {
        let config = Arc::clone(&settings.runtime_config);
        let state_dir = match &config.state_dir {
            Directory::At(path) => Some(path.clone()),
            Directory::None => None,
            Directory::Default => settings.state_dir.clone(),
        };
        Self { config, state_dir }
    }
}
