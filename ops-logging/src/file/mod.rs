//! The files: their names, when a new one begins, which ones go, and the writing itself.

mod active;
mod loss;
mod name;
mod owner;
mod retention;
mod sweep;
mod turn;
mod writer;

pub use name::SegmentName;
pub(crate) use name::is_prefix;
pub use retention::{Removal, Retention, Segment, WhyRemoved};
pub(crate) use writer::{FileSink, Settings};
