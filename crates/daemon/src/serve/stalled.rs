//! [`Streams`]: requests of HTTP/2 connections as tasks that end when their clients take nothing.
//!
//! A client that grants a stream no window, while it answers pings, is there and yet takes nothing. hyper then asks the
//! response's body for nothing either, so that whatever the body holds (a guest, a file) would be held for as long as the
//! client likes. Over HTTP/1.1 the connection itself shows that it is stuck ([`Patience`](crate::patience::Patience)).

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::tasks::Tasks;

thread_local! {
    /// The request that this thread serves.
    static DELIVERY: Cell<Delivery> = const { Cell::new(Delivery { frames: 0, wanted: true }) };
}

/// How far a response's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivery {
    /// How many frames were given to be sent.
    frames: u64,
    /// Whether another one is waited for.
    wanted: bool,
}

/// Notes what a response's body answered when it was asked for its next frame. Bodies call it for each answer; those that
/// do not are never considered stuck.
pub fn note_frame<T>(polled: &Poll<Option<T>>) {
    let before = DELIVERY.get();
    DELIVERY.set(match polled {
        Poll::Ready(Some(_)) => Delivery { frames: before.frames + 1, wanted: false },
        Poll::Ready(None) | Poll::Pending => Delivery { wanted: true, ..before },
    });
}

/// Runs what hyper wants to run for a connection, and ends requests whose bodies nobody takes for a time.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) tasks: Tasks,
    pub(super) patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.tasks.spawn_brief("http2 request", taken(future, self.patience));
    }
}

/// Runs `request`, until it ends or the frame that it gave last has not been followed by a request for another one for
/// `patience`.
async fn taken<F: Future>(request: F, patience: Duration) {
    let mut request = pin!(request);
    let mut over: Option<Pin<Box<Sleep>>> = None;
    let mut delivery = Delivery { frames: 0, wanted: true };
    poll_fn(|cx| {
        let outer = DELIVERY.replace(delivery);
        let polled = request.as_mut().poll(cx);
        let now = DELIVERY.replace(outer);
        let moved = std::mem::replace(&mut delivery, now) != now;
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if delivery.wanted {
            over = None;
            return Poll::Pending;
        }
        let over = over.get_or_insert_with(|| Box::pin(sleep(patience)));
        if moved {
            over.as_mut().reset(Instant::now() + patience);
        }
        over.as_mut().poll(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_request_of_which_nothing_is_taken_ends() {
        let stuck = poll_fn(|_| {
            if DELIVERY.get().frames == 0 {
                note_frame(&Poll::Ready(Some(())));
            }
            Poll::<()>::Pending
        });
        taken(stuck, Duration::from_millis(1)).await;
        assert_eq!(DELIVERY.get(), Delivery { frames: 0, wanted: true }, "the next one begins anew");
    }

    #[tokio::test]
    async fn a_request_that_waits_for_its_body_or_has_none_yet_goes_on() {
        let waiting = poll_fn(|_| {
            note_frame(&Poll::Ready(Some(())));
            note_frame::<()>(&Poll::Pending);
            Poll::<()>::Pending
        });
        let long = Duration::from_millis(50);
        tokio::time::timeout(long, taken(waiting, Duration::ZERO)).await.unwrap_err();
        tokio::time::timeout(long, taken(pending::<()>(), Duration::ZERO)).await.unwrap_err();
    }
}
