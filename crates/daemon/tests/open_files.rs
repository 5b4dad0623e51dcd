//! What a server does that may open no more files. A test binary of its own: the limit is the process's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::{self, Write},
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex},
};

use daemon::{accept, serve::Places};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

const CLIENTS: usize = 5;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_server_that_may_open_no_more_files_waits_longer_and_longer_and_then_goes_on() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let before = getrlimit(Resource::Nofile);
    // The next one would have a number beyond the last.
    let most = clients.last().map_or(0, |client| u64::try_from(client.as_raw_fd()).unwrap()) + 1;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }).unwrap();

    let (sender, mut accepted) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, Places::new(100), stop.clone(), move |connection| {
        sender.send(connection).expect("nobody waits for connections");
    }));
    while log.text().matches("cannot accept connections for now").count() < 4 {
        tokio::task::yield_now().await;
    }
    assert!(accepted.try_recv().is_err(), "there is no file for a connection");
    let told = log.text();
    for pause in ["pause_ms=10", "pause_ms=20", "pause_ms=40", "pause_ms=80"] {
        assert!(told.contains(pause), "{pause} is not in {told}");
    }
    setrlimit(Resource::Nofile, before).unwrap();
    for _ in 0..CLIENTS {
        accepted.recv().await.unwrap();
    }
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}
