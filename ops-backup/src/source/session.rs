//! One moment of a source, held while its streams are read.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::future::BoxFuture;

use super::{Dump, Unit};
use crate::error::Error;
use crate::manifest::TableRecord;

/// One moment of a source: all its streams are of it. Dropping it lets the moment go.
pub trait Session: Debug + Send + Sync {
    /// The streams, in the order in which they are best begun.
    fn units(&self) -> &[Unit];

    /// How many streams may be read at once. Default: 1.
    fn width(&self) -> usize {
        1
    }

    /// One of the streams.
    fn dump<'a>(&'a self, unit: &'a Unit) -> BoxFuture<'a, Result<Dump, Error>>;

    /// What whoever cleans up after a process that died has to know now, where the source's own
    /// [`observe`](super::Source::observe) could not know it yet. It is made durable before a stream is
    /// read, and handed to [`clean_up_observed`](super::Source::clean_up_observed) instead of what the
    /// source observed. Default: nothing.
    fn observe(&self) -> Option<String> {
        None
    }

    /// The rows of the streams that were read to their end so far, for those who watch. Default: 0.
    fn rows(&self) -> u64 {
        0
    }

    /// How many tables were read to their end so far, and how many there are, for those who watch.
    /// Default: none of none.
    fn tables(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Called when every stream was read to its end: what was learned of them, if the moment was
    /// held all the while. An error fails the backup.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Learned, Error>>;
}

/// What a [`Session`] knows when all its streams were read; it goes into the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Learned {
    /// Of the source as a whole: the moment's name, settings.
    pub facts: BTreeMap<String, String>,
    /// Of each table.
    pub tables: BTreeMap<String, TableRecord>,
}
