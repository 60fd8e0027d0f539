//! What commands print, for a person who watches.

use std::fmt;

use ops_core::process::{OutputObserver, Stream};

use crate::bars::Bars;

/// Shows the lines of a command as they come, marked with its name.
#[derive(Clone)]
pub struct Printed {
    name: String,
    bars: Bars,
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Printed({})", self.name)
    }
}

impl Printed {
    /// The lines of a command of this name.
    pub fn by(name: impl Into<String>, bars: Bars) -> Self {
        Self { name: name.into(), bars }
    }
}

impl OutputObserver for Printed {
    fn line(&self, _: Stream, line: &str) {
        // What a command prints could move the cursor, or be taken for a line of ours.
        let plain: String = line.chars().filter(|c| !c.is_control()).take(500).collect();
        self.bars.line(&format!("    {} | {plain}", self.name));
    }
}
