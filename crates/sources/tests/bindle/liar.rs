//! A server that answers each path with whatever bytes a test wants, for lies that no real server can be made to tell.

use std::{collections::BTreeMap, sync::Arc};

use sources::{
    bindle::{BindleClient, ClientOptions},
    http::Timeouts,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};

/// What to say for one path.
#[derive(Clone)]
pub(crate) enum Lie {
    /// These bytes, then the connection is closed.
    Say(Vec<u8>),
    /// These bytes, then more of the same without end.
    Endless(Vec<u8>),
    /// Nothing, for as long as the client waits.
    Hang,
}

/// A liar; stopped when dropped.
pub(crate) struct Liar {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Liar {
    /// Tells `lies` by path, and 404 for any other.
    pub(crate) async fn start(lies: impl IntoIterator<Item = (String, Lie)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lies: Arc<BTreeMap<_, _>> = Arc::new(lies.into_iter().collect());
        let heard = Arc::default();
        let mut serving = JoinSet::new();
        let all = Arc::clone(&heard);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&lies), Arc::clone(&all)));
            }
        });
        Self { port, heard, _serving: serving }
    }

    /// The requests so far, headers included.
    pub(crate) async fn heard(&self) -> Vec<String> {
        self.heard.lock().await.clone()
    }

    pub(crate) fn client(&self, options: ClientOptions) -> BindleClient {
        // Short, because a liar that hangs will do so for all of it.
        let timeouts = Timeouts { read: Duration::from_millis(300), ..Timeouts::default() };
        let server = format!("http://127.0.0.1:{}/v1", self.port).parse().unwrap();
        BindleClient::new(server, ClientOptions { timeouts, ..options }).unwrap()
    }
}

async fn answer(mut stream: TcpStream, lies: Arc<BTreeMap<String, Lie>>, heard: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|count| count == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    heard.lock().await.push(request);
    // That the client stops listening is what many tests are about.
    let _hung_up = match lies.get(&path).cloned().unwrap_or(Lie::Say(said(404, "", b""))) {
        Lie::Say(bytes) => stream.write_all(&bytes).await,
        Lie::Hang => std::future::pending().await,
        Lie::Endless(bytes) => loop {
            if let Err(error) = stream.write_all(&bytes).await {
                break Err(error);
            }
        },
    };
}

/// An answer that is well-formed so far.
pub(crate) fn said(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Lie\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
