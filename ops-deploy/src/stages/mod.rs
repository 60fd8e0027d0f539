//! What a deployment does besides starting and switching: commands between its stages, a build, a
//! migration, and a watch over the new version once it has the traffic.

mod bake;
mod expand;
mod hook;
mod migration;
mod run;
mod step;
mod watch;
mod windows;

pub use bake::{Bake, Quiet};
pub use hook::{Hook, When};
pub use migration::Migration;
pub(crate) use run::{Staged, Stages, check, run, undo};
pub use step::StageStep;
pub(crate) use watch::{Counted, Watched};
