//! [`Slot`]: which revision of an app answers new requests.

use std::{fmt, sync::Arc, time::Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use control::RevisionId;
use http::{Request, Response, StatusCode};
use hyper::body::Body;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Held;
use crate::{
    application::{self, Connection, HttpApplication, Reason, RequestError, ResponseBody},
    metrics::{AppMetrics, Open},
};

/// A revision that can answer requests. Dropped after its last response's last byte.
pub struct Serving {
    /// Its name.
    pub revision: RevisionId,
    application: Arc<HttpApplication>,
    drained: DropGuard,
}

impl Serving {
    /// The revision called `revision`.
    #[must_use]
    pub fn new(revision: RevisionId, application: Arc<HttpApplication>) -> Self {
        Self { revision, application, drained: CancellationToken::new().drop_guard() }
    }

    /// Cancelled once nobody holds the revision any more: no slot, no request.
    #[must_use]
    pub fn drained(&self) -> CancellationToken {
        self.drained.token().clone()
    }

    /// The application.
    #[must_use]
    pub fn application(&self) -> &HttpApplication {
        &self.application
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serving").field(&self.revision).finish()
    }
}

/// The place of an app's revision: read by every request, replaced with one pointer swap.
#[derive(Debug)]
pub struct Slot {
    serving: ArcSwapOption<Serving>,
    metrics: AppMetrics,
}

/// What a slot answers with.
pub type SlotBody = Held<ResponseBody, Ending>;

impl Slot {
    /// A slot in which nothing is yet.
    #[must_use]
    pub const fn new(metrics: AppMetrics) -> Self {
        Self { serving: ArcSwapOption::const_empty(), metrics }
    }

    /// New requests go to `serving` from now on; those in flight stay where they are.
    pub fn switch(&self, serving: Arc<Serving>) {
        self.serving.store(Some(serving));
    }

    /// New requests go nowhere.
    pub fn clear(&self) {
        self.serving.store(None);
    }

    /// The revision that new requests go to.
    #[must_use]
    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.load_full()
    }

    /// Counts a connection of the app, as long as what this returns lives.
    pub(super) fn connected(&self) -> Open {
        self.metrics.connected()
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>, connection: &Connection) -> Response<SlotBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let began = Instant::now();
        let serving = self.serving.load_full();
        let response = match &serving {
            Some(serving) => serving.application.handle(request, connection).await,
            None => application::refuse(&RequestError::NotServed),
        };
        self.ending(response, began, serving)
    }

    /// Answers a request that no revision may see.
    pub(super) fn refuse(&self, error: &RequestError) -> Response<SlotBody> {
        self.ending(application::refuse(error), Instant::now(), None)
    }

    fn ending(
        &self,
        response: Response<ResponseBody>,
        began: Instant,
        serving: Option<Arc<Serving>>,
    ) -> Response<SlotBody> {
        if let Some(Reason(reason)) = response.extensions().get() {
            self.metrics.failed(reason);
        }
        let ending = Ending { status: response.status(), began, metrics: self.metrics.clone(), _serving: serving };
        response.map(|body| Held::new(body, ending))
    }
}

/// What happens at the end of a response: it is measured, and lets go of its revision.
#[derive(Debug)]
pub struct Ending {
    status: StatusCode,
    began: Instant,
    metrics: AppMetrics,
    _serving: Option<Arc<Serving>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.metrics.answered(self.status, self.began.elapsed());
    }
}
