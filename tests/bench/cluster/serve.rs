//! The static server that the peers run: the floor of what answering can cost.

use std::{convert::Infallible, net::Ipv4Addr};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// Answers `hello` to everything, in the background, until the handle is dropped.
pub(crate) struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the server on all addresses.
#[expect(clippy::disallowed_methods, reason = "the task is owned by the returned handle")]
pub(crate) async fn start(port: u16) -> Result<Server> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    Ok(Server(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer =
                service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello\n")))) });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    })))
}

/// Serves until the process ends: what the pod of the `pod` variant runs.
pub(crate) async fn forever(port: u16) -> Result<()> {
    let server = start(port).await?;
    tokio::signal::ctrl_c().await?;
    drop(server);
    Ok(())
}
