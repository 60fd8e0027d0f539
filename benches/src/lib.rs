//! What is measured, and against which peers. Two programs measure it: `ops-bench` lets the sides take
//! turns and tells their ratio; `cargo bench` has criterion look at each side for itself.

pub mod backup;
pub mod journal;
pub mod rounds;
pub mod saga;
pub mod scratch;

/// Why nothing could be measured.
pub type Failure = Box<dyn std::error::Error>;

/// Makes a benchmark in a folder; the quick one has fewer rounds, and less data.
pub type Make = fn(quick: bool, folder: &std::path::Path) -> Result<rounds::Benchmark, Failure>;

/// Every benchmark.
pub const ALL: [Make; 3] = [journal::benchmark, saga::benchmark, backup::benchmark];
