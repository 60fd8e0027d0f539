//! Tags: names for commits that stay.

mod make;
mod name;
mod plan;

pub use make::Tagging;
pub use name::TagName;
pub use plan::TagOptions;

pub(crate) use make::{check, release, run, undo, verify};
