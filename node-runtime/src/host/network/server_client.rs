//! [`ServerClient`]: asks an HTTP server that the runtime configuration names, by way of a [`Network`]. No guest chooses it,
//! but on a cluster the author of an app does.
//!
//! Promise: what is blocked is not connected to, whatever a name leads to however often it is asked for, and certificates
//! are those that the network's identity trusts. However many guests ask, a server has no more than [`REQUESTS`] requests at a
//! time; they do not count as the application's own connections, which would keep it from its database.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use reqwest::{
    Method, RequestBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use sources::http::{HttpClient, HttpError, HttpOptions, Names};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Network, NetworkError};

/// How many requests a server has at a time, each of them a connection.
pub(in crate::host) const REQUESTS: usize = 32;

/// A client of one server.
#[derive(Debug)]
pub(crate) struct ServerClient {
    client: HttpClient,
    reachable: Arc<Reachable>,
    turns: Semaphore,
}

/// Where the server may be.
#[derive(Debug)]
struct Reachable {
    network: Network,
    /// The ports that were asked. Names are looked up without one, but some addresses are blocked at some ports only.
    ports: Mutex<BTreeSet<u16>>,
}

impl ServerClient {
    /// A client of the server at `url`, with `options` where the network says nothing else. Reads the system's authorities,
    /// so this blocks.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub(crate) fn new(network: &Network, url: &Url, options: HttpOptions) -> Result<Self, HttpError> {
        let reachable = Arc::new(Reachable { network: network.clone(), ports: Mutex::default() });
        let tls = url.host_str().and_then(|host| network.identity().own_config(host));
        let names = Names(Arc::clone(&reachable) as Arc<dyn Resolve>);
        let client = HttpClient::new(&HttpOptions { tls, names: Some(names), ..options })?;
        Ok(Self { client, reachable, turns: Semaphore::new(REQUESTS) })
    }

    /// Waits for a turn, which is kept until the answer has been read.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.acquire().await.ok()
    }

    /// Starts a request to `url`.
    ///
    /// # Errors
    /// When it may not be connected to.
    pub(crate) async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, NetworkError> {
        let port = url.port_or_known_default().unwrap_or_default();
        self.reachable.ports().insert(port);
        // An address is no name that would be looked up.
        if let Some(host) = url.host_str()
            && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        {
            self.reachable.network.addresses(host, port).await?;
        }
        Ok(self.client.request(method, url))
    }
}

impl Reachable {
    fn ports(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Reachable {
    fn resolve(&self, name: Name) -> Resolving {
        let (network, ports) = (self.network.clone(), self.ports().clone());
        Box::pin(async move {
            let mut addresses = network.addresses(name.as_str(), 0).await?;
            let is_blocked = |ip: IpAddr| ports.iter().any(|port| network.is_blocked(SocketAddr::new(ip, *port)));
            addresses.retain(|address| !is_blocked(address.ip()));
            if addresses.is_empty() {
                return Err(NetworkError::Blocked { host: name.as_str().to_owned() }.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use manifest::RuntimeConfig;

    use super::*;
    use crate::host::{
        limits::HostMemory,
        network::{BlockedNetworks, Roots, SharedNetwork},
    };

    /// Why a server at `url` is not asked, where `blocked` is.
    async fn refusal(blocked: BlockedNetworks, url: &str) -> String {
        let roots = Arc::new(Roots::default());
        let shared = SharedNetwork::new(&RuntimeConfig::default(), &blocked, 1, HostMemory::default(), &roots).unwrap();
        let url: Url = url.parse().unwrap();
        let client = ServerClient::new(&Arc::new(shared).of_application(), &url, HttpOptions::default()).unwrap();
        let request = match client.request(Method::GET, url).await {
            Ok(request) => request,
            Err(error) => return error.to_string(),
        };
        daemon::chain(&HttpError::from(request.send().await.unwrap_err()))
    }

    #[tokio::test]
    async fn a_server_in_a_blocked_network_is_not_asked_by_name_or_by_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
            let url = format!("http://{host}:{port}/");
            for blocked in ["private".parse().unwrap(), BlockedNetworks::default().and_own_ports([port])] {
                let error = refusal(blocked, &url).await;
                assert!(error.contains("does not let guests reach"), "{url}: {error}");
            }
        }
    }
}
