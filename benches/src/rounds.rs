//! What is measured: sides that do the same work, ours first, and how often.

use std::fmt;
use std::time::{Duration, Instant};

use crate::Failure;

/// Sides that do the same work, ours first.
#[derive(Debug)]
pub struct Benchmark {
    /// What they do.
    pub group: String,
    /// How many equal things one run does; times are told for one of them.
    pub items: u32,
    /// How many bytes one run goes over, where that says something.
    pub bytes: Option<u64>,
    /// How many runs are enough where sides take turns.
    pub rounds: usize,
    /// The first is ours.
    pub sides: Vec<Side>,
}

/// What one run of a side cost.
#[derive(Debug, Clone)]
pub struct Cost {
    /// How long the part that counts took.
    pub wall: Duration,
    /// How long processors worked for it, in user space and in the kernel, where that is known.
    pub cpu: Option<Duration>,
    /// What else it took, in bytes: the memory, or the space in a store.
    pub sizes: Vec<(&'static str, u64)>,
}

impl Cost {
    /// With another size.
    pub fn with(mut self, what: &'static str, bytes: u64) -> Self {
        self.sizes.push((what, bytes));
        self
    }
}

impl From<Duration> for Cost {
    fn from(wall: Duration) -> Self {
        Self { wall, cpu: None, sizes: Vec::new() }
    }
}

/// One of the sides.
pub struct Side {
    /// `ops`, or `peer: ` and what it is.
    pub name: String,
    /// Does the work once, and answers what it cost.
    pub run: Box<dyn FnMut() -> Result<Cost, Failure>>,
}

impl Side {
    /// A side of this name.
    pub fn new<C: Into<Cost>>(
        name: &str,
        mut run: impl FnMut() -> Result<C, Failure> + 'static,
    ) -> Self {
        Self { name: name.to_owned(), run: Box::new(move || Ok(run()?.into())) }
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How long it takes.
///
/// # Errors
/// Those of the work.
pub fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Duration), Failure> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}
