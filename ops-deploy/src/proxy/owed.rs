//! Answers of an HTTP/2 connection that its client does not take.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::time::Instant;

use super::forward::{Answer, BoxError};

/// The answers that are under way on one connection. A client that opens no window for one of them
/// never blocks the socket, and answers every ping: it would keep the request, and the instance's
/// connection, for ever. So who takes nothing of an answer for too long loses that answer; the other
/// answers of its connection go on.
#[derive(Debug, Clone, Default)]
pub(super) struct Owed(Arc<Mutex<Vec<Weak<Mutex<Held>>>>>);

/// How the answers of a connection stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// So many go on.
    pub alive: usize,
    /// So many were given up, and their streams wait for a window all the same.
    pub given_up: usize,
}

#[derive(Debug)]
struct Held {
    answer: Option<Answer>,
    /// Since when it is the client's turn to take something; `None` while it is the service's turn.
    clients_turn: Option<Instant>,
}

struct Watched(Arc<Mutex<Held>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owed {
    /// Watches whether an answer is taken.
    pub(super) fn watch(&self, answer: Answer) -> Answer {
        if answer.is_end_stream() {
            return answer;
        }
        let held = Held { answer: Some(answer), clients_turn: Some(Instant::now()) };
        let held = Arc::new(Mutex::new(held));
        let mut all = lock(&self.0);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        drop(all);
        Watched(held).boxed_unsync()
    }

    /// Gives up what was not taken for so long: its request is over for the instance.
    pub(super) fn give_up(&self, patience: Duration) -> Standing {
        let mut standing = Standing::default();
        for held in lock(&self.0).iter().filter_map(Weak::upgrade) {
            let mut held = lock(&held);
            if held.clients_turn.is_some_and(|since| since.elapsed() >= patience)
                && held.answer.take().is_some()
            {
                tracing::debug!(target: "ops", "a client takes nothing of its answer");
            }
            match held.answer {
                Some(_) => standing.alive += 1,
                None => standing.given_up += 1,
            }
        }
        standing
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut held = lock(&self.0);
        let Some(answer) = &mut held.answer else {
            return Poll::Ready(Some(Err("the client took nothing of it for too long".into())));
        };
        let polled = Pin::new(answer).poll_frame(cx);
        held.clients_turn = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).answer.as_ref().is_some_and(Body::is_end_stream)
    }
}
