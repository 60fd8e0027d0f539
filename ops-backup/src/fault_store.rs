//! A store that fails when it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to the call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect.
    Refused,
    /// It has its effect, and the answer is lost.
    AnswerLost,
}

/// A store around another one whose k-th call fails: for testing what builds on a store.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    at: u64,
    fault: Fault,
    calls: AtomicU64,
}

impl FaultStore {
    /// Lets call number `at`, counted from 1, fail; 0 lets none fail.
    pub fn new(inner: Arc<dyn ObjectStore>, at: u64, fault: Fault) -> Self {
        Self { inner, at, fault, calls: AtomicU64::new(0) }
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn enter(&self) -> Option<Fault> {
        (self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.at).then_some(self.fault)
    }
}

fn failure() -> Error {
    Error::Generic { store: "FaultStore", source: "the call fails by order".into() }
}

/// Runs the call, or not, as the fault says.
macro_rules! call {
    ($self:ident, $call:expr) => {
        match $self.enter() {
            None => $call.await,
            Some(Fault::Refused) => Err(failure()),
            Some(Fault::AnswerLost) => $call.await.and_then(|_| Err(failure())),
        }
    };
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, opts: PutOptions) -> Result<PutResult> {
        call!(self, self.inner.put_opts(at, bytes, opts))
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        call!(self, self.inner.put_multipart_opts(at, opts))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        call!(self, self.inner.get_opts(at, options))
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        call!(self, self.inner.get_ranges(at, ranges))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.enter() {
            None => self.inner.delete_stream(locations),
            Some(Fault::Refused) => stream::iter([Err(failure())]).boxed(),
            Some(Fault::AnswerLost) => {
                self.inner.delete_stream(locations).map(|_| Err(failure())).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.enter() {
            None => self.inner.list(prefix),
            Some(_) => stream::iter([Err(failure())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        call!(self, self.inner.list_with_delimiter(prefix))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        call!(self, self.inner.copy_opts(from, to, options))
    }
}
