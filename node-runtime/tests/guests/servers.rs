//! Servers that guests call: well-behaved ones, over TLS too, and such as do what no server should.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An HTTP server. Each answer tells how the request came: `x-version`, `x-connection` (which connection), `x-connections` (open ones).
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl HttpServer {
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    pub(crate) async fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::serve(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let open = Arc::new(AtomicUsize::new(0));
            for number in 0_usize.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, open) = (tls.clone(), Arc::clone(&open));
                connections.spawn(async move {
                    open.fetch_add(1, Ordering::Relaxed);
                    match tls {
                        None => speak(stream, number, &open).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                speak(stream, number, &open).await;
                            }
                        }
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn secure(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, number: usize, open: &Arc<AtomicUsize>) {
    let open = Arc::clone(open);
    let service = service_fn(move |request| {
        let open = open.load(Ordering::Relaxed);
        async move {
            let version = format!("{:?}", request.version());
            let mut response = answer(request).await;
            for (name, value) in
                [("x-version", version), ("x-connection", number.to_string()), ("x-connections", open.to_string())]
            {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            Ok::<_, Infallible>(response)
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _closed = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let full = |text: String| Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    match request.uri().path() {
        "/headers" => {
            let mut lines = vec![format!("{} {}", request.method(), request.uri().path_and_query().unwrap())];
            lines.extend(request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
            full(lines.join("\n") + "\n")
        }
        "/length" => {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            full(length.to_string())
        }
        "/trailers" => {
            let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "all".parse().unwrap())]);
            let frames = [Frame::data(Bytes::from_static(b"body\n")), Frame::trailers(trailers)];
            Response::new(StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed_unsync())
        }
        "/large" => {
            let pieces: usize = request.uri().query().unwrap().parse().unwrap();
            let piece = Bytes::from(vec![b'x'; 1 << 20]);
            let frames = futures::stream::iter((0..pieces).map(move |_| Ok(Frame::data(piece.clone()))));
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        "/hold" => {
            let frames = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"begun\n")))]);
            let frames = futures::StreamExt::chain(frames, futures::stream::pending());
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        "/never" => std::future::pending().await,
        _ => full("hello\n".to_owned()),
    }
}

/// A port that is taken and at which nobody listens, as long as the socket lives.
pub(crate) fn nobody() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

/// A server that reads what comes and answers each connection with `answer`, then closes it or keeps it open.
pub(crate) async fn raw(answer: &'static [u8], then_close: bool) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open: Vec<TcpStream> = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = [0; 4096];
            let _read = stream.read(&mut read).await;
            let _written = stream.write_all(answer).await;
            if then_close {
                let _closed = stream.shutdown().await;
            } else {
                open.push(stream);
            }
        }
    });
    (address, tasks)
}

/// An authority, a server's certificate for `localhost`, and a client's, in files.
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
    server: (CertificateDer<'static>, PrivateKeyDer<'static>),
    ca: CertificateDer<'static>,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        Self::make_with(|_| {})
    }

    /// The same, with a server's certificate whose time is over.
    pub(crate) fn expired() -> Self {
        Self::make_with(|server| {
            server.not_before = rcgen::date_time_ymd(2020, 1, 1);
            server.not_after = rcgen::date_time_ymd(2020, 2, 1);
        })
    }

    fn make_with(of_server: impl FnOnce(&mut CertificateParams)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let params = |purpose| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            params
        };
        let issue = |params: CertificateParams| {
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &*ca).unwrap(), key)
        };
        let mut server = params(ExtendedKeyUsagePurpose::ServerAuth);
        of_server(&mut server);
        let (server, server_key) = issue(server);
        let (client, client_key) = issue(params(ExtendedKeyUsagePurpose::ClientAuth));
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        std::fs::write(dir.path().join("client.pem"), client.pem()).unwrap();
        std::fs::write(dir.path().join("client-key.pem"), client_key.serialize_pem()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes()).unwrap();
        Self { server: (server.der().clone(), key), ca: ca.der().clone(), dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }

    /// What a server with the certificate speaks; `clients` says whether it wants one of theirs.
    pub(crate) fn server(&self, protocols: &[&str], clients: bool) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if clients {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = &self.server;
        let mut config = builder.with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}
