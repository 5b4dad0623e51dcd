//! [`Grants`]: what a component may use.

use std::sync::Arc;

use manifest::runtime_config::LlmCompute;

use crate::application::OwnApplication;

use super::{HttpPool, LogLabels, Network, Services, Variables};

/// What one component of one revision may use beside its files and environment. Made when the revision is built, shared by
/// all its requests.
#[derive(Debug)]
pub(crate) struct Grants {
    /// Where it may connect to, and with what.
    pub(crate) network: Network,
    /// By which client it sends HTTP requests.
    pub(crate) http: Arc<HttpPool>,
    /// The labels of the key-value stores that it may open.
    pub(crate) key_value_stores: Vec<String>,
    /// The labels of the SQLite databases that it may open.
    pub(crate) sqlite_databases: Vec<String>,
    /// The application that it is part of.
    pub(crate) application: Arc<OwnApplication>,
    /// The language models that it may use.
    pub(crate) ai_models: Vec<String>,
    /// Where they are.
    pub(crate) llm: Option<LlmCompute>,
    /// Its variables.
    pub(crate) variables: Variables,
    /// How large a body may be that the host holds in memory for it, in bytes.
    pub(crate) buffered_body: usize,
    /// Who it is, in logs.
    pub(crate) labels: Arc<LogLabels>,
    /// What it shares with the other components of its revision; each interface asks what this component may first.
    pub(crate) services: Arc<Services>,
}

impl Grants {
    /// Tells the author of a guest why it may not connect: the guest itself hears only that it may not.
    pub(crate) fn denied(&self, scheme: &str, host: &str, port: Option<u16>) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let LogLabels { namespace, app, revision, component } = &*self.labels;
        tracing::warn!(
            namespace,
            app,
            revision,
            component,
            advice = format!("add \"{scheme}://{host}{port}\" to allowed_outbound_hosts of the component"),
            "a guest may not connect there",
        );
    }
}

#[cfg(test)]
impl Grants {
    /// A component that may use nothing, of an app that keeps its stores in memory.
    pub(crate) fn none() -> Self {
        let settings = crate::engine::RevisionSettings::default();
        let network = Network::allowing(&[]);
        let services = Services::new(&settings, &crate::engine::EngineConfig::default(), &network);
        Self {
            application: Arc::default(),
            labels: Arc::default(),
            http: HttpPool::new(&network, true),
            network,
            key_value_stores: Vec::new(),
            sqlite_databases: Vec::new(),
            ai_models: Vec::new(),
            llm: None,
            variables: Variables::default(),
            buffered_body: 0,
            services: Arc::new(services.unwrap()),
        }
    }
}
