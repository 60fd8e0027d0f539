//! Two results, side by side.

use std::fmt;

use crate::measurement::Measurement;

/// Two results, side by side.
#[derive(Debug)]
pub(crate) struct Comparison {
    rows: Vec<Row>,
    missing: Vec<String>,
    max_ratio: f64,
}

#[derive(Debug)]
struct Row {
    name: String,
    ratio: Option<f64>,
}

/// Compares by name. A benchmark that is gone counts as too slow: else removing one would hide it.
pub(crate) fn compare(base: &[Measurement], new: &[Measurement], max_ratio: f64) -> Comparison {
    let find = |name: &str| base.iter().find(|old| old.name == name);
    let rows = new.iter().map(|one| Row {
        name: one.name.clone(),
        ratio: find(&one.name).map(|old| one.value / old.value),
    });
    let gone = base.iter().filter(|old| !new.iter().any(|one| one.name == old.name));
    let missing = gone.map(|old| old.name.clone()).collect();
    Comparison { rows: rows.collect(), missing, max_ratio }
}

impl Comparison {
    /// Whether nothing has become too slow.
    pub(crate) fn is_fine(&self) -> bool {
        self.missing.is_empty() && !self.rows.iter().any(|row| self.is_too_slow(row))
    }

    fn is_too_slow(&self, row: &Row) -> bool {
        // A peer's speed is the machine's, not ours.
        let ours = !row.name.contains("/peer: ");
        // Not `>`, so that a ratio that is no number does not pass.
        ours && row.ratio.is_some_and(|ratio| !(ratio <= self.max_ratio))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nnew / stored (more than {:.2} is a regression)", self.max_ratio)?;
        for row in &self.rows {
            let mark = if self.is_too_slow(row) { "  TOO SLOW" } else { "" };
            match row.ratio {
                Some(ratio) => writeln!(f, "{ratio:>8.2}  {}{mark}", row.name)?,
                None => writeln!(f, "     new  {}", row.name)?,
            }
        }
        for name in &self.missing {
            writeln!(f, "    GONE  {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(values: &[(&str, f64)]) -> Vec<Measurement> {
        let one = |(name, value): &(&str, f64)| Measurement {
            name: (*name).to_owned(),
            unit: "ns".into(),
            value: *value,
            range: String::new(),
        };
        values.iter().map(one).collect()
    }

    #[test]
    fn what_is_a_regression() {
        let base = results(&[("a/ops", 100.0), ("a/peer: x", 100.0)]);
        for (new, fine) in [
            (vec![("a/ops", 100.0), ("a/peer: x", 100.0)], true),
            (vec![("a/ops", 150.0), ("a/peer: x", 900.0)], true),
            (vec![("a/ops", 151.0), ("a/peer: x", 100.0)], false),
            (vec![("a/ops", f64::NAN), ("a/peer: x", 100.0)], false),
            (vec![("a/peer: x", 100.0)], false),
            (vec![("a/ops", 1.0), ("a/peer: x", 1.0), ("b/ops", 1.0)], true),
        ] {
            assert_eq!(compare(&base, &results(&new), 1.5).is_fine(), fine, "{new:?}");
        }
    }
}
