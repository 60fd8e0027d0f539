//! Somebody who does something in the middle of an operation.

use std::fmt;
use std::path::Path;

use ops_core::event::{Event, Observer};
use ops_core::{Context, Environment};

/// Does this at each event of an operation.
struct Meddler<F>(F);

impl<F> fmt::Debug for Meddler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddler")
    }
}

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for Meddler<F> {
    fn event(&self, event: &Event<'_>) {
        self.0(event);
    }
}

/// Surroundings in which this happens at each event.
pub fn meddled(state: &Path, meddle: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Context {
    Context::builder(state).environment(Environment::Development).observer(Meddler(meddle)).build()
}

/// Whether the step of this name is done.
pub fn is_done(event: &Event<'_>, name: &str) -> bool {
    matches!(event, Event::StepDone { step, .. } if step.name == name)
}

/// Puts a link to itself at a path, which neither can be read nor is absent.
pub fn circle(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(path);
    std::os::unix::fs::symlink(path, path).unwrap();
}
