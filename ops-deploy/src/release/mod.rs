//! Releases as folders: `releases/<version>`, a `current` symlink, and a service in front of which
//! the traffic moves.

mod builder;
mod cleanup;
mod current;
mod directory;
mod gate;
mod health;
mod history;
mod instance;
mod plan;
mod start;
mod status;
mod step;
mod switch;

pub use builder::{Gate, ReleaseDirectoryBuilder};
pub use directory::ReleaseDirectory;
pub use health::ReleaseHealth;
pub use history::{Entry, History, Verb};
pub use instance::Instance;
pub use status::Status;
pub use step::ReleaseStep;
