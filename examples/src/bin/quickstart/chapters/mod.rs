//! The story, a file a chapter.

pub mod back_up;
pub mod break_it;
pub mod first_version;
pub mod kill_it;
pub mod restore;
pub mod summary;
pub mod update;
