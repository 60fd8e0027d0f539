//! Tells a person what happens: sections, sentences, plans.

use std::io::{IsTerminal as _, Write};

use ops_core::Plan;
use ops_examples::bars::Bars;

/// Writes to the standard output, or, where that belongs to the JSON, to the standard error.
#[derive(Debug)]
pub struct Narrator {
    /// The place below the text, where bars are drawn on a terminal.
    pub bars: Bars,
    styled: bool,
    sections: usize,
}

impl Narrator {
    pub fn new(json: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let (out, styled): (Box<dyn Write + Send>, bool) = if json {
            (Box::new(std::io::stderr()), on_terminal)
        } else {
            (Box::new(std::io::stdout()), std::io::stdout().is_terminal())
        };
        Self { bars: Bars::new(out, on_terminal && styled), styled, sections: 0 }
    }

    pub fn section(&mut self, title: &str) {
        self.sections += 1;
        let title = format!("{}. {title}", self.sections);
        self.bars.line("");
        if self.styled {
            self.bars.line(&format!("\x1b[1m{title}\x1b[0m"));
        } else {
            self.bars.line(&title);
            self.bars.line(&"-".repeat(title.chars().count()));
        }
    }

    pub fn say(&self, text: impl AsRef<str>) {
        self.bars.line(text.as_ref());
    }

    pub fn plan(&self, plan: &Plan) {
        for line in plan.to_string().lines() {
            self.bars.line(&format!("  | {line}"));
        }
    }
}
