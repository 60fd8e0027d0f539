//! Where the traffic goes: a pointer with an epoch, moved by compare-and-swap.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt as _};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::proxy::Tally;

/// One running instance that can take traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// Which instance it is: `1a2b3c4-01JD2Q5W3V8Y7K6M4N9P0R1S2T`. An address can be taken over by
    /// another process; an instance's name is never used twice.
    pub instance: String,
}

/// Where the traffic goes now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pointer {
    /// Grows by one with each switch.
    pub epoch: u64,
    /// `None` answers every request with 503.
    pub upstream: Option<Upstream>,
}

/// Moves traffic from one instance to another.
///
/// The switch is a compare-and-swap: whoever decided on old knowledge loses, however late its
/// request arrives. That is the fence between two deployers, not their locks.
pub trait TrafficSwitch: Debug + Send + Sync {
    /// Where the traffic goes now.
    fn current(&self) -> BoxFuture<'_, Result<Pointer, Error>>;

    /// Sends all new requests to `to`, durably, and answers the new pointer. Requests that are
    /// under way end where they began.
    ///
    /// Its error is [`ErrorKind::Conflict`] if the epoch is not `expected_epoch`. Dropping the
    /// future leaves open whether the switch happened: look at [`current`](Self::current).
    fn switch<'a>(
        &'a self,
        expected_epoch: u64,
        to: Option<&'a Upstream>,
    ) -> BoxFuture<'a, Result<Pointer, Error>>;

    /// How many requests this instance is still answering.
    fn in_flight<'a>(&'a self, upstream: &'a Upstream) -> BoxFuture<'a, Result<u64, Error>>;

    /// What this instance has answered so far, if that is counted. Default: it is not.
    fn answered<'a>(
        &'a self,
        _upstream: &'a Upstream,
    ) -> BoxFuture<'a, Result<Option<Tally>, Error>> {
        async { Ok(None) }.boxed()
    }
}

pub(crate) fn conflict(expected: u64, found: &Pointer) -> Error {
    let at = found.upstream.as_ref().map_or("nothing", |upstream| &upstream.instance);
    Error::new(ErrorKind::Conflict, "the traffic was switched in the meantime")
        .with("expected_epoch", expected)
        .with("epoch", found.epoch)
        .with("upstream", at)
        .remedy("see who deploys there, then plan again")
}

impl Pointer {
    /// The pointer after a switch from this one.
    pub(crate) fn moved(
        &self,
        expected_epoch: u64,
        to: Option<&Upstream>,
    ) -> Result<Pointer, Error> {
        if self.epoch != expected_epoch {
            return Err(conflict(expected_epoch, self));
        }
        Ok(Self { epoch: self.epoch + 1, upstream: to.cloned() })
    }
}

/// A pointer in memory, for tests and for programs that route their own requests by it. It is
/// forgotten with the process, so it guards nothing across a crash.
#[derive(Debug, Default)]
pub struct MemorySwitch(Mutex<Pointer>);

impl MemorySwitch {
    /// A pointer to nothing, at epoch 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the traffic goes now.
    pub fn pointer(&self) -> Pointer {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl TrafficSwitch for MemorySwitch {
    fn current(&self) -> BoxFuture<'_, Result<Pointer, Error>> {
        async { Ok(self.pointer()) }.boxed()
    }

    fn switch<'a>(
        &'a self,
        expected_epoch: u64,
        to: Option<&'a Upstream>,
    ) -> BoxFuture<'a, Result<Pointer, Error>> {
        async move {
            let mut pointer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *pointer = pointer.moved(expected_epoch, to)?;
            Ok(pointer.clone())
        }
        .boxed()
    }

    fn in_flight<'a>(&'a self, _: &'a Upstream) -> BoxFuture<'a, Result<u64, Error>> {
        async { Ok(0) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_switch_on_old_knowledge_loses() {
        let switch = MemorySwitch::new();
        let one = Upstream { address: ([127, 0, 0, 1], 1).into(), instance: "one".into() };
        let two = Upstream { address: ([127, 0, 0, 1], 2).into(), instance: "two".into() };
        assert_eq!(switch.switch(0, Some(&one)).await.unwrap().epoch, 1);
        let lost = switch.switch(0, Some(&two)).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Conflict);
        assert_eq!(
            lost.to_string(),
            "the traffic was switched in the meantime (expected_epoch=0, epoch=1, upstream=one); \
             see who deploys there, then plan again"
        );
        assert_eq!(switch.current().await.unwrap().upstream, Some(one));
    }
}
