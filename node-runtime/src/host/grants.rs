//! [`Grants`]: what a component may use.

use std::sync::Arc;

use super::{HttpPool, Network, Services, Variables};

/// What one component of one revision may use beside its files and environment. Made when the revision is built, shared by
/// all its requests.
#[derive(Debug)]
pub(crate) struct Grants {
    /// Where it may connect to, and with what.
    pub(crate) network: Network,
    /// By which client it sends HTTP requests.
    pub(crate) http: Arc<HttpPool>,
    /// Its variables.
    pub(crate) variables: Variables,
    /// How large a body may be that the host holds in memory for it, in bytes.
    pub(crate) buffered_body: usize,
    /// What it shares with the other components of its revision; each interface asks what this component may first.
    pub(crate) services: Arc<Services>,
}
