//! The generator of load: connections that each send a request when they have the response to the last one.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// What is asked again and again.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Bytes,
    /// How many bytes the response must have.
    pub(crate) answer: usize,
}

/// What one measurement saw.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    /// The time of each request, in microseconds.
    pub(crate) latencies: Vec<u32>,
    /// What the server's process needed.
    pub(crate) cpu: Duration,
}

/// Asks over `connections` for as long as `time`.
pub(crate) async fn run(address: SocketAddr, ask: &Ask, connections: usize, time: Duration) -> Result<Measured> {
    let mut drivers = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (client, connection) = http1::handshake(TokioIo::new(stream)).await?;
        drivers.spawn(connection);
        clients.push(client);
    }
    let began = Instant::now();
    let all = try_join_all(clients.into_iter().map(|client| keep_asking(client, ask, began + time))).await?;
    Ok(Measured { elapsed: began.elapsed(), latencies: all.concat(), cpu: Duration::ZERO })
}

async fn keep_asking(mut client: SendRequest<Full<Bytes>>, ask: &Ask, until: Instant) -> Result<Vec<u32>> {
    let mut latencies = Vec::with_capacity(1 << 12);
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok(latencies);
        }
        once(&mut client, ask).await?;
        latencies.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

/// One request, and all of its response.
async fn once(client: &mut SendRequest<Full<Bytes>>, ask: &Ask) -> Result<()> {
    client.ready().await?;
    let request = Request::builder()
        .method(ask.method.clone())
        .uri(&ask.path)
        .header(header::HOST, "bench")
        .body(Full::new(ask.body.clone()))?;
    let response = client.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    ensure!(
        status.is_success() && length == ask.answer,
        "{} {}: {status} with {length} bytes, not {}",
        ask.method,
        ask.path,
        ask.answer
    );
    Ok(())
}

/// Asks once on a connection of its own: the answer's status and body.
pub(crate) async fn once_alone(address: SocketAddr, method: Method, path: &str, body: Bytes) -> Result<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, "bench").body(Full::new(body))?;
    let response = client.send_request(request).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}
