//! What ends the programs of a repository, its filters and merge drivers, that the work on this
//! thread starts.
//!
//! They run deep inside of work that blocks, in the middle of gix's calls. So what bounds them
//! belongs to the thread that does the work, for as long as it does it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::error::ErrorKind;

/// How long the programs of one look or one plan may take, all of them. Those of a step have the
/// deadline of its operation.
const PATIENCE: Duration = Duration::from_mins(30);

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Bound>> = const { RefCell::new(None) };
}

/// Until when programs may run.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    token: CancellationToken,
    until: Option<Instant>,
}

impl Bound {
    /// Until the step is asked to end: the engine sees to it that it is.
    pub(crate) fn of_a_step(token: &CancellationToken) -> Self {
        Self { token: token.clone(), until: None }
    }

    /// Until this is cancelled, or patience is at its end.
    pub(crate) fn of_a_look(token: CancellationToken) -> Self {
        Self { token, until: Some(Instant::now() + PATIENCE) }
    }

    /// The one that holds for this thread now.
    pub(crate) fn here() -> Self {
        OF_THIS_THREAD
            .with_borrow(Clone::clone)
            .unwrap_or_else(|| Self::of_a_look(CancellationToken::new()))
    }

    /// Does this within the bound.
    pub(crate) fn within<T>(self, work: impl FnOnce() -> T) -> T {
        /// Puts the outer one back, also after a panic.
        struct Outer(Option<Bound>);
        impl Drop for Outer {
            fn drop(&mut self) {
                OF_THIS_THREAD.set(self.0.take());
            }
        }
        let _outer = Outer(OF_THIS_THREAD.replace(Some(self)));
        work()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// How long is left, but at most this.
    pub(crate) fn left(&self, most: Duration) -> Duration {
        self.until.map_or(most, |until| until.saturating_duration_since(Instant::now()).min(most))
    }

    /// Waits for the end, and says which it is.
    pub(crate) async fn over(&self) -> ErrorKind {
        let late = async {
            match self.until {
                Some(until) => {
                    tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.token.cancelled() => ErrorKind::Cancelled,
            () = late => ErrorKind::TimedOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_a_thread_holds_for_its_work_and_no_longer() {
        let (outer, inner) = (CancellationToken::new(), CancellationToken::new());
        inner.cancel();
        Bound::of_a_look(outer).within(|| {
            let panicked = std::panic::catch_unwind(|| {
                Bound::of_a_step(&inner).within(|| {
                    assert!(Bound::here().token().is_cancelled());
                    assert_eq!(
                        Bound::here().left(Duration::from_hours(9)),
                        Duration::from_hours(9)
                    );
                    panic!("in the middle of work");
                });
            });
            assert!(panicked.is_err() && !Bound::here().token().is_cancelled());
            assert!(Bound::here().left(Duration::from_hours(9)) <= PATIENCE);
        });
        assert!(!Bound::here().token().is_cancelled());
    }
}
