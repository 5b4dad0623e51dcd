//! A server that speaks as Vault does, or as it should not.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// What the server does when it is asked.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Answers with this status and text.
    Answer(u16, String),
    /// Says nothing until it is told to.
    Hang,
}

/// The server; gone when this is dropped.
pub(crate) struct Vault {
    pub(crate) address: SocketAddr,
    /// The authority of its certificate, as PEM, if it has one.
    pub(crate) authority: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// By path.
    secrets: Mutex<BTreeMap<String, Behaviour>>,
    /// `TOKEN PATH` of every request.
    asked: Mutex<Vec<String>>,
    released: Notify,
}

impl Vault {
    pub(crate) async fn start() -> Self {
        Self::serve(None, String::new()).await
    }

    /// With a certificate that only its own authority vouches for.
    pub(crate) async fn start_with_tls() -> Self {
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        Self::serve(Some(TlsAcceptor::from(Arc::new(config))), certified.cert.pem()).await
    }

    async fn serve(tls: Option<TlsAcceptor>, authority: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, authority, state, _tasks: tasks }
    }

    /// The answer at `path` from now on.
    pub(crate) fn set(&self, path: &str, behaviour: Behaviour) {
        self.state.secrets.lock().unwrap().insert(path.to_owned(), behaviour);
    }

    /// The secret at `path` has this field `value` from now on.
    pub(crate) fn put(&self, path: &str, value: &str) {
        let answer = serde_json::json!({ "data": { "data": { "value": value }, "metadata": { "version": 1 } } });
        self.set(path, Behaviour::Answer(200, answer.to_string()));
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _client) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let builder = hyper::server::conn::http1::Builder::new();
            // A client that went away, or did not like the certificate.
            match tls {
                None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(builder.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<bytes::Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let token = request.headers().get("x-vault-token").map_or("", |token| token.to_str().unwrap());
    state.asked.lock().unwrap().push(format!("{token} {path}"));
    let behaviour = state.secrets.lock().unwrap().get(&path).cloned();
    let (status, text) = match behaviour.unwrap_or(Behaviour::Answer(404, r#"{"errors":[]}"#.to_owned())) {
        Behaviour::Answer(status, text) => (status, text),
        Behaviour::Hang => {
            state.released.notified().await;
            (200, String::new())
        }
    };
    Ok(Response::builder().status(status).body(Full::new(text.into())).unwrap())
}
