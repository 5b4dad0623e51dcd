//! [`RequestBody`]: a request's body that its caller must go on sending.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;

/// A body that ends with an error when nothing comes for a time while somebody reads it. A body that nobody reads may wait.
#[derive(Debug)]
pub struct RequestBody<B> {
    body: B,
    patience: Duration,
    /// Once somebody has had to wait.
    over: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> RequestBody<B> {
    /// `body`, of which something must come every `patience`.
    pub(super) const fn new(body: B, patience: Duration) -> Self {
        Self { body, patience, over: None, waiting: false }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let over = this.over.get_or_insert_with(|| Box::pin(sleep(this.patience)));
        if !std::mem::replace(&mut this.waiting, true) {
            over.as_mut().reset(Instant::now() + this.patience);
        }
        over.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, channel::Channel};

    use super::*;

    #[tokio::test]
    async fn a_body_of_which_nothing_comes_ends_with_an_error() {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        sender.send_data(Bytes::from_static(b"first")).await.unwrap();
        let mut body =
            RequestBody::new(body.map_err(|never| match never {}).map_err(|never: Error| never), Duration::ZERO);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        assert!(matches!(body.frame().await, Some(Err(Error::ConnectionReadTimeout))));
        drop(sender);
    }
}
