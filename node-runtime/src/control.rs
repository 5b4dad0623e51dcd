//! The control server: takes assignments from the operator, and from nobody else.
//!
//! Promises:
//! - only TLS 1.3, only with a client certificate of the CA whose DNS name is `operator.spindle.internal`;
//! - one stream at a time commands: one of a higher or the same term takes over from an earlier one, one of a lower
//!   term is refused;
//! - what a stream could not send yet is merged, so a slow operator costs no memory;
//! - certificates are read again for each connection, so a rotation drops no stream and needs no restart.
//!
//! The process can start before its certificates are there: the server waits for the files.

mod fence;
mod frames;
mod stream;
mod tls;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::control::{RuntimeName, wire::PATH};
use daemon::{Accepted, HttpServer, HttpSettings, Tasks, accept};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, service::service_fn};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{
    apps::Apps,
    control::{
        fence::Fence,
        stream::{Body, Stream},
        tls::Identity,
    },
    metrics::Metrics,
};

/// How many connections the control server takes at a time: one per operator replica, and some on their way.
const CONNECTIONS: usize = 32;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often missing certificates are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What the control server needs.
#[derive(Debug, Clone)]
pub struct ControlSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The directory of `ca.crt`, `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// This runtime's name.
    pub runtime: RuntimeName,
    /// How many apps this runtime wants at most.
    pub capacity: u32,
}

/// The control server. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// What all streams share.
#[derive(Debug)]
struct Shared {
    settings: ControlSettings,
    apps: Apps,
    metrics: Metrics,
    fence: Fence,
    draining: watch::Receiver<bool>,
    listening: AtomicBool,
    tasks: Tasks,
}

impl Control {
    /// Starts the server as a task of `tasks`: it listens as soon as `restored` says that `apps` have what was kept on disk,
    /// so that nothing older comes after what an operator says, and its certificates are there. While `draining` says so,
    /// operators are told.
    #[must_use]
    pub fn start(
        tasks: &Tasks,
        settings: ControlSettings,
        apps: Apps,
        metrics: Metrics,
        mut restored: watch::Receiver<bool>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let shared = Arc::new(Shared {
            settings,
            apps,
            metrics,
            fence: Fence::default(),
            draining,
            listening: AtomicBool::new(false),
            tasks: tasks.clone(),
        });
        let control = Self { shared };
        let (server, stop) = (control.clone(), tasks.stop_token());
        tasks.spawn("control server", async move {
            let identity = stop.run_until_cancelled(async {
                // An error means that the process stops.
                drop(restored.wait_for(|restored| *restored).await);
                server.wait_for_identity().await
            });
            let Some(identity) = identity.await else { return Ok(()) };
            server.listen(identity).await
        });
        control
    }

    /// Whether operators can connect.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.shared.listening.load(Ordering::Relaxed)
    }

    /// Whether an operator's stream is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.fence.is_taken()
    }

    async fn wait_for_identity(&self) -> Arc<Identity> {
        let dir = &self.shared.settings.tls_dir;
        let mut told = String::new();
        loop {
            match Identity::open(dir) {
                Ok(identity) => return Arc::new(identity),
                Err(error) => {
                    let problem = daemon::chain(&error);
                    if problem != told {
                        tracing::info!(dir = %dir.display(), problem, "waiting for the control server's certificates");
                        told = problem;
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn listen(&self, identity: Arc<Identity>) -> io::Result<()> {
        let Shared { settings, tasks, listening, .. } = &*self.shared;
        let listener = TcpListener::bind(settings.address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen at {} for the operator: {error}", settings.address))
        })?;
        tracing::info!(address = %listener.local_addr()?, "control server listens");
        listening.store(true, Ordering::Relaxed);
        let http = HttpServer::new(&HttpSettings::default(), tasks.clone()).http2_only();
        accept(listener, Arc::new(Semaphore::new(CONNECTIONS)), tasks.stop_token(), |accepted| {
            let (control, identity, http) = (self.clone(), Arc::clone(&identity), http.clone());
            tasks
                .spawn_brief("control connection", async move { control.connection(accepted, &identity, &http).await });
        })
        .await;
        Ok(())
    }

    async fn connection(&self, accepted: Accepted, identity: &Identity, http: &HttpServer) {
        let Accepted { stream, peer, place } = accepted;
        let stop = self.shared.tasks.stop_token();
        let handshake = tokio::time::timeout(HANDSHAKE, identity.accept(stream));
        let problem = match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => {
                let service = service_fn(|request| {
                    let control = self.clone();
                    async move { Ok::<_, Infallible>(control.answer(request, peer)) }
                });
                http.serve(stream, service, &stop).await.err().map(|error| error.to_string())
            }
            Some(Ok(Err(refused))) => {
                self.shared.metrics.control_refused.inc();
                Some(daemon::chain(&refused))
            }
            Some(Err(_)) => Some("the TLS handshake took too long".to_owned()),
            None => None,
        };
        if let Some(problem) = problem {
            tracing::warn!(%peer, problem, "control connection ended");
        }
        drop(place);
    }

    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Either<Body, Empty<bytes::Bytes>>> {
        let status = match (request.uri().path(), request.method()) {
            (PATH, &Method::POST) => {
                let (stream, body) = Stream::new(Arc::clone(&self.shared), peer);
                self.shared.tasks.spawn_brief("control stream", stream.run(request.into_body()));
                return Response::new(Either::Left(body));
            }
            (PATH, _) => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::NOT_FOUND,
        };
        let mut response = Response::new(Either::Right(Empty::new()));
        *response.status_mut() = status;
        response
    }
}
