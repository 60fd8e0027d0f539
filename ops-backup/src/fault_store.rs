//! A store that fails when it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Semaphore;

/// What happens to the call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect.
    Refused,
    /// It has its effect, and the answer is lost.
    AnswerLost,
    /// It has no effect, and there is never an answer.
    Hangs,
    /// It has its effect, and there is never an answer.
    HangsAfter,
    /// There is never an answer, and what it writes arrives so much later. As [`Hangs`](Self::Hangs)
    /// for calls that write nothing.
    Late(Duration),
    /// It has its effect, and its answer takes so much longer.
    Slow(Duration),
    /// What is read ends in the middle, without an error. As [`Refused`](Self::Refused) for calls
    /// that read no content.
    CutShort,
}

/// A store around another one of which calls fail: for testing what builds on a store.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    at: u64,
    times: u64,
    /// A seed, and of how many calls one fails.
    random: Option<(u64, u64)>,
    /// Whether calls that fail by chance may have no answer, and how late they then arrive.
    silent: Option<Duration>,
    fault: Fault,
    calls: AtomicU64,
    late: Arc<AtomicU64>,
    gate: Option<Arc<Gate>>,
}

/// Where calls wait for their turn.
#[derive(Debug)]
struct Gate {
    turns: Semaphore,
    waiting: AtomicU64,
    passed: AtomicU64,
}

impl FaultStore {
    /// Lets call number `at`, counted from 1, fail; 0 lets none fail.
    pub fn new(inner: Arc<dyn ObjectStore>, at: u64, fault: Fault) -> Self {
        Self {
            inner,
            at,
            times: 1,
            random: None,
            silent: None,
            fault,
            calls: AtomicU64::new(0),
            late: Arc::default(),
            gate: None,
        }
    }

    /// Lets each call wait until [`grant`](Self::grant) lets it on: for stepping several programs
    /// that share a store through one another, each with a store like this around the same one.
    pub fn in_turns(inner: Arc<dyn ObjectStore>) -> Self {
        let gate = Gate {
            turns: Semaphore::new(0),
            waiting: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        };
        Self { gate: Some(Arc::new(gate)), ..Self::new(inner, 0, Fault::Refused) }
    }

    /// Lets so many more calls on.
    pub fn grant(&self, calls: u32) {
        if let Some(gate) = &self.gate {
            gate.turns.add_permits(calls as usize);
        }
    }

    /// How many calls wait for their turn.
    pub fn waiting(&self) -> u64 {
        self.gate.as_ref().map_or(0, |gate| gate.waiting.load(Ordering::SeqCst))
    }

    /// How many calls have had their turn.
    pub fn passed(&self) -> u64 {
        self.gate.as_ref().map_or(0, |gate| gate.passed.load(Ordering::SeqCst))
    }

    /// Lets so many calls in a row fail. Default: 1.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Lets about one call of `of` fail, by chance: refused, with a lost answer, cut short, or only
    /// 1 ms late. The same seed chooses the same calls.
    pub fn seeded(inner: Arc<dyn ObjectStore>, seed: u64, of: u64) -> Self {
        Self { random: Some((seed, of.max(1))), ..Self::new(inner, 0, Fault::Refused) }
    }

    /// Lets a quarter of the calls that fail by chance have no answer: without their effect, with it,
    /// or with it only so much later. Callers need a deadline of some milliseconds.
    pub fn silent(mut self, late: Duration) -> Self {
        self.silent = Some(late);
        self
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many writes have not arrived yet.
    pub fn under_way(&self) -> u64 {
        self.late.load(Ordering::SeqCst)
    }

    fn enter(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((seed, of)) = self.random {
            let chance = scramble(seed ^ scramble(call));
            let silent = self.silent.filter(|_| (chance >> 48).is_multiple_of(4));
            let fault = match (chance % 8, silent) {
                (0..3, Some(_)) => Fault::Hangs,
                (3..6, Some(_)) => Fault::HangsAfter,
                (6.., Some(late)) => Fault::Late(late),
                (chance, None) => answered(chance),
            };
            return (chance >> 3).is_multiple_of(of).then_some(fault);
        }
        let fails = self.at > 0 && (self.at..self.at.saturating_add(self.times)).contains(&call);
        fails.then_some(self.fault)
    }
}

fn answered(chance: u64) -> Fault {
    match chance {
        0..3 => Fault::Refused,
        3..6 => Fault::AnswerLost,
        6 => Fault::CutShort,
        _ => Fault::Slow(Duration::from_millis(1)),
    }
}

impl Gate {
    async fn turn(gate: Option<Arc<Self>>) {
        // Also when the call is given up while it waits.
        struct Waits<'a>(&'a AtomicU64);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let Some(gate) = gate else { return };
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        let _waits = Waits(&gate.waiting);
        if let Ok(permit) = gate.turns.acquire().await {
            permit.forget();
            gate.passed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The finaliser of SplitMix64.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Nothing, after a while.
fn later<T: Send + 'static>(delay: Duration) -> BoxStream<'static, T> {
    stream::once(tokio::time::sleep(delay)).filter_map(async |()| None).boxed()
}

fn failure() -> Error {
    Error::Generic { store: "FaultStore", source: "the call fails by order".into() }
}

/// Runs the call, or not, as the fault says.
macro_rules! call {
    ($self:ident, $call:expr) => {{
        Gate::turn($self.gate.clone()).await;
        call!(in $self.enter(), $call)
    }};
    (in $fault:expr, $call:expr) => {
        match $fault {
            None => $call.await,
            Some(Fault::Refused | Fault::CutShort) => Err(failure()),
            Some(Fault::Slow(delay)) => {
                let answer = $call.await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::AnswerLost) => $call.await.and_then(|_| Err(failure())),
            Some(Fault::Hangs | Fault::Late(_)) => std::future::pending().await,
            Some(Fault::HangsAfter) => {
                let _ = $call.await;
                std::future::pending().await
            }
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
        Gate::turn(self.gate.clone()).await;
        let fault = self.enter();
        if let Some(Fault::Late(delay)) = fault {
            let (inner, late, at) = (self.inner.clone(), self.late.clone(), at.clone());
            late.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = inner.put_opts(&at, bytes, opts).await;
                late.fetch_sub(1, Ordering::SeqCst);
            });
            return std::future::pending().await;
        }
        call!(in fault, self.inner.put_opts(at, bytes, opts))
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        call!(self, self.inner.put_multipart_opts(at, opts))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        Gate::turn(self.gate.clone()).await;
        let fault = self.enter();
        if fault == Some(Fault::CutShort) {
            let GetResult { meta, range, attributes, extensions, .. } =
                self.inner.get_opts(at, options.clone()).await?;
            let bytes = self.inner.get_opts(at, options).await?.bytes().await?;
            let half = bytes.slice(..bytes.len() / 2);
            let payload = GetResultPayload::Stream(stream::iter([Ok(half)]).boxed());
            return Ok(GetResult { payload, meta, range, attributes, extensions });
        }
        call!(in fault, self.inner.get_opts(at, options))
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        call!(self, self.inner.get_ranges(at, ranges))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (gate, inner, fault) = (self.gate.clone(), self.inner.clone(), self.enter());
        let answer = async move {
            Gate::turn(gate).await;
            match fault {
                None => inner.delete_stream(locations),
                Some(Fault::Refused | Fault::CutShort) => stream::iter([Err(failure())]).boxed(),
                Some(Fault::AnswerLost) => {
                    inner.delete_stream(locations).map(|_| Err(failure())).boxed()
                }
                Some(Fault::Hangs | Fault::Late(_)) => stream::pending().boxed(),
                Some(Fault::Slow(delay)) => {
                    inner.delete_stream(locations).chain(later(delay)).boxed()
                }
                Some(Fault::HangsAfter) => inner
                    .delete_stream(locations)
                    .filter_map(async |_| None)
                    .chain(stream::pending())
                    .boxed(),
            }
        };
        stream::once(answer).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (gate, inner, fault) = (self.gate.clone(), self.inner.clone(), self.enter());
        let prefix = prefix.cloned();
        let answer = async move {
            Gate::turn(gate).await;
            match fault {
                None => inner.list(prefix.as_ref()),
                Some(Fault::Refused | Fault::AnswerLost | Fault::CutShort) => {
                    stream::iter([Err(failure())]).boxed()
                }
                Some(Fault::Slow(delay)) => inner.list(prefix.as_ref()).chain(later(delay)).boxed(),
                Some(Fault::Hangs | Fault::HangsAfter | Fault::Late(_)) => {
                    stream::pending().boxed()
                }
            }
        };
        stream::once(answer).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        call!(self, self.inner.list_with_delimiter(prefix))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        call!(self, self.inner.copy_opts(from, to, options))
    }
}
