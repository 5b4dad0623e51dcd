//! A runtime that does what a test says: real TLS, real HTTP/2, the real wire format.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use control::{
    AppKey, AppReport, Assignment, Fingerprint, FromRuntime, Inventory, RevisionId, RuntimeName, ToRuntime, Welcome,
    wire,
};
use http::{Request, Response};
use http_body_util::{
    BodyExt as _,
    channel::{Channel, Sender},
};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::{
    api::core::v1::Secret,
    jiff::{SignedDuration, Timestamp},
};
use operator::pki::{
    issue::{self, Authority, Leaf, Role},
    secrets::Material,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen, or fails.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it should have happened by now")
}

/// One authority with everything that it has issued.
pub(crate) struct Certificates {
    pub(crate) material: Material,
    pub(crate) operator: Leaf,
    pub(crate) runtime: Leaf,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let life = SignedDuration::from_hours(1);
        let now = Timestamp::now();
        let authority = Authority::make(now, life * 2).unwrap();
        let (operator, runtime) =
            (authority.issue(Role::Operator, now, life).unwrap(), authority.issue(Role::Runtime, now, life).unwrap());
        let mut material = Material::empty().unwrap();
        material.authorities.push(authority);
        Self { material, operator, runtime }
    }
}

/// The server side of a runtime: only clients of `bundle` get in.
pub(crate) fn server_config(bundle: &str, leaf: &Leaf) -> Arc<ServerConfig> {
    pem_config(bundle, &leaf.certificate, &leaf.key)
}

/// The server side of a runtime that mounts `secret`.
pub(crate) fn secret_config(secret: &Secret) -> Arc<ServerConfig> {
    let data = secret.data.as_ref().unwrap();
    let text = |key: &str| std::str::from_utf8(&data[key].0).unwrap();
    pem_config(text("ca.crt"), text("tls.crt"), text("tls.key"))
}

fn pem_config(bundle: &str, certificate: &str, key: &str) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), issue::provider()).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(issue::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A runtime at a loopback address.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    conversations: mpsc::UnboundedReceiver<Conversation>,
    _server: JoinSet<()>,
}

impl Peer {
    /// A runtime at 127.0.0.`host`; at any port when `port` is 0.
    pub(crate) async fn start(host: u8, port: u16, tls: Arc<ServerConfig>) -> Self {
        Self::begin(host, port, tls, true).await
    }

    /// A server that takes every request and answers none.
    pub(crate) async fn mute(host: u8, port: u16, tls: Arc<ServerConfig>) -> Self {
        Self::begin(host, port, tls, false).await
    }

    async fn begin(host: u8, port: u16, tls: Arc<ServerConfig>, answers: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (found, conversations) = mpsc::unbounded_channel();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, TlsAcceptor::from(tls), found, answers));
        Self { address, conversations, _server: server }
    }

    /// The next stream that the operator opens, whenever that is.
    pub(crate) async fn next(&mut self) -> Option<Conversation> {
        self.conversations.recv().await
    }

    /// The next stream that the operator opens.
    pub(crate) async fn conversation(&mut self) -> Conversation {
        soon(self.conversations.recv()).await.unwrap()
    }

    /// The next stream, after introductions.
    pub(crate) async fn welcome(&mut self, name: &str, inventory: Inventory) -> Conversation {
        let mut conversation = self.conversation().await;
        let hello = conversation.next().await;
        assert!(matches!(&hello, ToRuntime::Hello(hello) if hello.versions.0 <= wire::VERSION), "{hello:?}");
        conversation.say(&FromRuntime::Welcome(Box::new(welcome(name, inventory)))).await;
        conversation
    }

    /// The pod of this runtime.
    pub(crate) fn pod(&self, name: &str, uid: &str) -> k8s_openapi::api::core::v1::Pod {
        pod(name, uid, self.address.ip())
    }
}

/// A ready runtime pod.
pub(crate) fn pod(name: &str, uid: &str, ip: IpAddr) -> k8s_openapi::api::core::v1::Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": name, "namespace": "spindle", "uid": uid },
        "spec": { "nodeName": "n1", "containers": [] },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))
    .unwrap()
}

pub(crate) fn welcome(name: &str, inventory: Inventory) -> Welcome {
    Welcome {
        version: wire::VERSION,
        runtime: RuntimeName(name.to_owned()),
        build: "test".to_owned(),
        capacity: 1000,
        draining: false,
        inventory,
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, found: mpsc::UnboundedSender<Conversation>, answers: bool) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, found) = (tls.clone(), found.clone());
        connections.spawn(async move {
            // What is refused here is what a test is about: the operator's side says so.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                assert_eq!((request.method().as_str(), request.uri().path()), ("POST", wire::PATH));
                let (outgoing, body) = Channel::<Bytes>::new(16);
                let conversation = Conversation { incoming: request.into_body(), buffer: BytesMut::new(), outgoing };
                let _test_is_over = found.send(conversation);
                async move {
                    if !answers {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            let _ended = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// One stream, as the runtime sees it. Reads only when told to; ends when dropped.
pub(crate) struct Conversation {
    incoming: Incoming,
    buffer: BytesMut,
    outgoing: Sender<Bytes>,
}

impl Conversation {
    pub(crate) async fn say(&mut self, message: &FromRuntime) {
        self.try_say(message).await.expect("the stream ended");
    }

    /// `None` when the stream has ended.
    pub(crate) async fn try_say(&mut self, message: &FromRuntime) -> Option<()> {
        self.outgoing.send_data(wire::frame(message).unwrap()).await.ok()
    }

    pub(crate) async fn report(&mut self, report: AppReport) {
        self.say(&FromRuntime::Report(vec![report])).await;
    }

    /// The next message, pings answered on the way.
    pub(crate) async fn next(&mut self) -> ToRuntime {
        loop {
            match soon(self.read()).await.expect("the stream ended") {
                ToRuntime::Ping(count) => self.say(&FromRuntime::Pong(count)).await,
                message => return message,
            }
        }
    }

    /// The next message, pings included; `None` when the stream has ended.
    pub(crate) async fn read(&mut self) -> Option<ToRuntime> {
        loop {
            if let Some(payload) = wire::take_frame(&mut self.buffer).unwrap() {
                return Some(wire::decode(&payload).unwrap());
            }
            let data = self.incoming.frame().await?.ok()?.into_data().ok()?;
            self.buffer.extend_from_slice(&data);
        }
    }
}

pub(crate) fn app(name: &str) -> AppKey {
    AppKey::new("shop", name).unwrap()
}

pub(crate) fn assignment(name: &str, port: u16) -> Assignment {
    Assignment {
        app: app(name),
        uid: format!("uid-{name}"),
        port,
        revisions: Vec::new(),
        active: RevisionId("r1".to_owned()),
        hold: control::Hold::Nothing,
    }
}

pub(crate) fn report(assignment: &Assignment) -> AppReport {
    AppReport {
        app: assignment.app.clone(),
        uid: assignment.uid.clone(),
        fingerprint: assignment.fingerprint().unwrap(),
        word: None,
        port: assignment.port,
        revisions: BTreeMap::new(),
        serving: Some(assignment.active.clone()),
        problem: None,
        times: BTreeMap::new(),
    }
}

pub(crate) fn holding(assignments: &[Assignment]) -> Inventory {
    let fingerprint = |assignment: &Assignment| -> (AppKey, Fingerprint) {
        (assignment.app.clone(), assignment.fingerprint().unwrap())
    };
    Inventory {
        assigned: assignments.iter().map(fingerprint).collect(),
        reports: assignments.iter().map(report).collect(),
        words: 0,
        rollouts: Vec::new(),
    }
}
