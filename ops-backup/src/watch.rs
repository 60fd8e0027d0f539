//! Who watches long work: how far it is, and how much there is in all.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ops_core::Progress;
use ops_core::progress::Update;
use tokio::task::JoinSet;

use crate::source::{Extent, Session, Source};

/// What is read of chunks, for somebody who watches.
#[derive(Clone)]
pub(crate) struct Watch {
    progress: Arc<dyn Progress>,
    phase: Arc<str>,
    total: u64,
    done: Arc<AtomicU64>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Watch {
    pub fn new(progress: &Arc<dyn Progress>, phase: String, total: u64) -> Self {
        Self { progress: progress.clone(), phase: phase.into(), total, done: Arc::default() }
    }

    /// So many more plain bytes were read. A chunk that is read twice counts once more, so the total
    /// is what there is at least.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.max(done);
        self.progress.update(&Update::bytes(&*self.phase, done, Some(total)));
    }
}

/// What a backup tells of itself.
pub(crate) struct Course {
    progress: Arc<dyn Progress>,
    set: String,
    bytes: AtomicU64,
    extent: Arc<OnceLock<Extent>>,
    /// Ends with this.
    _estimating: JoinSet<()>,
}

impl Course {
    /// Estimates how much these sources have while the first is read already.
    pub fn of(progress: &Arc<dyn Progress>, set: String, sources: Vec<Arc<dyn Source>>) -> Self {
        let extent = Arc::new(OnceLock::new());
        let told = extent.clone();
        let mut estimating = JoinSet::new();
        estimating.spawn(async move {
            let mut all = Extent::default().bytes(0).rows(0);
            for source in sources {
                // Only for those who watch: a backup does not fail for it.
                all = all.and(source.extent().await.unwrap_or_default());
            }
            let _ = told.set(all);
        });
        Self {
            progress: progress.clone(),
            set,
            bytes: AtomicU64::new(0),
            extent,
            _estimating: estimating,
        }
    }

    /// So many more bytes were read and are safe.
    pub fn read(&self, bytes: u64) {
        let done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let known = self.extent.get().and_then(|extent| extent.bytes);
        // An estimate may be too low; done it is only in the end.
        let total = known.map(|known| known.max(done + 1));
        self.progress.update(&Update::bytes(self.phase("backing up"), done, total));
    }

    /// How far a session is.
    pub fn session(&self, session: &dyn Session, streams: u64) {
        let known = self.extent.get().and_then(|extent| extent.rows);
        let (rows, (tables, all)) = (session.rows(), session.tables());
        self.items("streams", streams, Some(session.units().len() as u64));
        if all > 0 {
            self.items("tables", tables, Some(all));
            let total = if tables == all { Some(rows) } else { known.map(|k| k.max(rows + 1)) };
            self.items("rows", rows, total);
        }
    }

    /// All of it is read.
    pub fn end(&self) {
        let done = self.bytes.load(Ordering::Relaxed);
        self.progress.update(&Update::bytes(self.phase("backing up"), done, Some(done)));
    }

    fn items(&self, what: &str, done: u64, total: Option<u64>) {
        let phase = format!("{what} of {}", self.set);
        self.progress.update(&Update::items(phase, done, total));
    }

    fn phase(&self, what: &str) -> String {
        format!("{what} {}", self.set)
    }
}
