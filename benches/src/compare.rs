//! Two results, side by side.

use std::fmt;

use crate::measurement::Measurement;
use ops_benches::Failure;

/// What may fail a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The ratios to the peers: machines differ, and so do their times.
    Ratios,
    /// Our times too.
    RatiosAndTimes,
}

/// Two results, side by side.
#[derive(Debug)]
pub(crate) struct Comparison {
    rows: Vec<Row>,
    missing: Vec<String>,
    max_regression: f64,
}

#[derive(Debug)]
struct Row {
    name: String,
    /// New to stored; none for what was not there.
    factor: Option<f64>,
    is_gate: bool,
}

impl Comparison {
    /// Compares by name. A benchmark that is gone counts as too slow: else removing one would hide
    /// it. Both must be checked results, without zeros and the like.
    pub fn new(
        base: &[Measurement],
        new: &[Measurement],
        gate: Gate,
        max_regression: f64,
    ) -> Result<Self, Failure> {
        let gates =
            |one: &Measurement| one.is_ratio() || (gate == Gate::RatiosAndTimes && !one.is_peer());
        if !base.iter().any(gates) {
            let message = "the stored result has no ratio to a peer, so nothing could fail; \
                           store one that `ops-bench run` wrote, or compare with --times";
            return Err(message.into());
        }
        let mut rows = Vec::new();
        for one in new {
            let old = base.iter().find(|old| old.name == one.name);
            if let Some(old) = old
                && old.unit != one.unit
            {
                let message =
                    format!("`{}` was in {}, and is in {} now", one.name, old.unit, one.unit);
                return Err(message.into());
            }
            rows.push(Row {
                name: one.name.clone(),
                factor: old.map(|old| one.value / old.value),
                is_gate: gates(one),
            });
        }
        let gone = base.iter().filter(|old| !new.iter().any(|one| one.name == old.name));
        let missing = gone.map(|old| old.name.clone()).collect();
        Ok(Self { rows, missing, max_regression })
    }

    /// Whether nothing has become too slow.
    pub fn is_fine(&self) -> bool {
        self.missing.is_empty() && !self.rows.iter().any(|row| self.is_too_slow(row))
    }

    fn is_too_slow(&self, row: &Row) -> bool {
        row.is_gate && row.factor.is_some_and(|f| f.is_nan() || f > self.max_regression)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nnew / stored (more than {:.2} fails where there is a *)",
            self.max_regression
        )?;
        for row in &self.rows {
            let star = if row.is_gate { '*' } else { ' ' };
            let mark = if self.is_too_slow(row) { "  TOO SLOW" } else { "" };
            match row.factor {
                Some(factor) => writeln!(f, "{factor:>8.2} {star} {}{mark}", row.name)?,
                None => writeln!(f, "     new {star} {}", row.name)?,
            }
        }
        for name in &self.missing {
            writeln!(f, "    GONE * {name}  (a quick result does not compare with a full one)")?;
        }
        Ok(())
    }
}
