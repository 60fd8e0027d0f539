//! What a deployment does besides starting and switching: commands between its stages, a build, a
//! migration, and a watch over the new version once it has the traffic.

mod bake;
mod hook;
mod migration;

pub use bake::Bake;
pub(crate) use bake::{Verdict, Watch};
pub use hook::{Hook, When};
pub(crate) use migration::INCOMPATIBLE;
pub use migration::Migration;
