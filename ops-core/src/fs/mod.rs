//! Durable file work: atomic writes, folder fsync, symlink swap, atomic exchange, free space.
//!
//! A call that returns has put its effect on disk: the file *and* the folder that names it are
//! fsynced. A reader sees the old state or the new one, never one between. Every function blocks;
//! from async code call them through [`StepContext::blocking`](crate::StepContext::blocking).
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use ops_core::fs;
//!
//! let file = dir.path().join("state.json");
//! fs::atomic_write(&file, b"{}")?;
//! assert_eq!(std::fs::read(&file)?, b"{}");
//!
//! fs::symlink_swap(&dir.path().join("current"), "releases/1a2b3c4".as_ref())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: what a disk does with an fsync is the disk's affair. [`exchange`] and
//! [`rename_noreplace`] need a file system that knows `renameat2` (ext4, xfs, btrfs, tmpfs, and
//! overlayfs on Linux; not NFS).

mod atomic;
mod durable;
mod failure;
mod rename;
mod space;
mod temporary;

pub use atomic::{atomic_write, atomic_write_mode, symlink_swap};
pub use durable::{
    create_dir_durable, remove_dir_durable, remove_file_durable, sync_dir, sync_tree,
};
pub use rename::{exchange, rename_durable, rename_noreplace};
pub use space::{Space, space};
pub use temporary::{sweep_temporaries, temporary_beside};
