//! A switch whose first move to v2 does not go as it should, and that works from then on.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use ops_deploy::{Error, MemorySwitch, Pointer, TrafficSwitch, Upstream};

/// The expected epoch, and where to.
type Move = (u64, Option<Upstream>);

/// What becomes of the first move.
type Fate = fn() -> BoxFuture<'static, Result<Pointer, Error>>;

#[derive(Debug, Clone)]
pub struct OddSwitch {
    pub inner: Arc<MemorySwitch>,
    /// The first move, once it was asked for.
    pub first: Arc<Mutex<Option<Move>>>,
    fate: Fate,
}

impl OddSwitch {
    pub fn new(fate: Fate) -> Self {
        Self { inner: Arc::default(), first: Arc::default(), fate }
    }
}

impl TrafficSwitch for OddSwitch {
    fn current(&self) -> BoxFuture<'_, Result<Pointer, Error>> {
        self.inner.current()
    }

    fn switch<'a>(
        &'a self,
        expected_epoch: u64,
        to: Option<&'a Upstream>,
    ) -> BoxFuture<'a, Result<Pointer, Error>> {
        let is_new = to.is_some_and(|to| to.instance.starts_with("v2"));
        let mut first = self.first.lock().unwrap();
        if is_new && first.is_none() {
            *first = Some((expected_epoch, to.cloned()));
            return (self.fate)();
        }
        self.inner.switch(expected_epoch, to)
    }

    fn in_flight<'a>(&'a self, upstream: &'a Upstream) -> BoxFuture<'a, Result<u64, Error>> {
        self.inner.in_flight(upstream)
    }
}
