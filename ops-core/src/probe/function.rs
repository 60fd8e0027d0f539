//! A probe of one's own, as a closure.

use std::fmt;

use futures::future::{BoxFuture, FutureExt as _};

use super::{Health, Probe};

/// A probe of one's own, as a closure.
pub struct FnProbe {
    name: String,
    ask: Box<dyn Fn() -> BoxFuture<'static, Health> + Send + Sync>,
}

impl FnProbe {
    /// A probe that answers what the closure's future answers.
    pub fn new<F>(name: impl Into<String>, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Health> + Send + 'static,
    {
        Self { name: name.into(), ask: Box::new(move || ask().boxed()) }
    }
}

impl fmt::Debug for FnProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnProbe").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Probe for FnProbe {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        (self.ask)()
    }
}
