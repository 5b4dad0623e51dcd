//! The floor: hyper alone. `/echo` sends back the request's body, everything else is a greeting.

use std::{convert::Infallible, io::Write as _};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What is answered; as long as what the guests answer.
const GREETING: &str = "Hello from Rust\n";

/// Serves until the process is ended, on all processors.
pub(crate) async fn serve() -> Result<()> {
    tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(accept())
    })
    .await?
}

async fn accept() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        #[expect(clippy::disallowed_methods, reason = "it ends with its connection")]
        drop(tokio::spawn(connection));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Either<Incoming, Full<Bytes>>>, Infallible> {
    Ok(Response::new(match request.uri().path() {
        "/echo" => Either::Left(request.into_body()),
        _ => Either::Right(Full::new(Bytes::from_static(GREETING.as_bytes()))),
    }))
}
