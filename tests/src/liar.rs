//! A Bindle server that passes on what a real one says, and lies about parcels of wasm when told to.
//!
//! Only for what a real server cannot be made to do.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// What to do with a parcel of wasm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing: pass it on.
    Honest,
    /// Change its last byte.
    Corrupt,
    /// Send more than the invoice says.
    Longer,
    /// Never answer.
    Hang,
}

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Liar {
    lie: Arc<Mutex<Lie>>,
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// Starts on a free port of `address`, in front of the server at `upstream` (a URL that ends in `/v1`).
    ///
    /// # Errors
    /// When the address cannot be bound.
    #[expect(clippy::disallowed_methods, reason = "the task is owned by the returned value")]
    pub async fn start(address: &str, upstream: &str, lie: Lie) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let (lie, client) = (Arc::new(Mutex::new(lie)), crate::prober::client()?);
        let (told, upstream) = (Arc::clone(&lie), upstream.trim_end_matches("/v1").to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, upstream, client) = (Arc::clone(&told), upstream.clone(), client.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let lie = *told.lock().unwrap_or_else(PoisonError::into_inner);
                    let (client, url) = (client.clone(), format!("{upstream}{}", request.uri()));
                    async move { Ok::<_, Infallible>(respond(&client, &url, lie).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Self { lie, url, task })
    }

    /// What to put into `spec.source.bindle.server`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Tells another lie, or none, from now on.
    pub fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }
}

async fn respond(client: &reqwest::Client, url: &str, lie: Lie) -> Response<Full<Bytes>> {
    let refuse = |status: u16| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        response
    };
    let Ok(answer) = client.get(url).send().await else { return refuse(502) };
    let (status, content_type) = (answer.status(), answer.headers().get("content-type").cloned());
    let Ok(body) = answer.bytes().await else { return refuse(502) };
    let is_wasm = content_type.as_ref().is_some_and(|value| value == "application/wasm");
    let mut body = body.to_vec();
    match lie {
        Lie::Hang if is_wasm => std::future::pending::<()>().await,
        Lie::Longer if is_wasm => body.extend_from_slice(b"more"),
        Lie::Corrupt if is_wasm => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
        }
        Lie::Honest | Lie::Corrupt | Lie::Longer | Lie::Hang => {}
    }
    let mut response = refuse(status.as_u16());
    if let Some(value) = content_type {
        response.headers_mut().insert("content-type", value);
    }
    *response.body_mut() = Full::new(Bytes::from(body));
    response
}
