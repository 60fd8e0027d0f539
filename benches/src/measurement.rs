//! One result, in the JSON that benchmark-tracking CI actions read: an array of objects with
//! `name`, `unit`, `value`, `range` and `extra`, where smaller is better.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use ops_benches::Failure;

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// `group/ops`, `group/peer: x`, or `group/ops : peer: x` for the ratio of the two.
    pub name: String,
    /// `ns`, `bytes` or `ratio`.
    pub unit: String,
    /// The median.
    pub value: f64,
    /// The least and the greatest.
    #[serde(default)]
    pub range: String,
    /// Of how many rounds.
    #[serde(default)]
    pub extra: String,
}

impl Measurement {
    /// The unit of a ratio of ours to a peer.
    pub const RATIO: &'static str = "ratio";
    /// The unit of a size.
    pub const BYTES: &'static str = "bytes";

    pub fn is_ratio(&self) -> bool {
        self.unit == Self::RATIO
    }

    /// A peer's speed is the machine's, not ours.
    pub fn is_peer(&self) -> bool {
        self.name.contains("/peer: ")
    }

    fn amount(&self) -> String {
        match self.value {
            ratio if self.is_ratio() => format!("{ratio:.2}"),
            bytes if self.unit == Self::BYTES => format!("{:.1} MB", bytes / 1e6),
            other if self.unit != "ns" => format!("{other} {}", self.unit),
            ns if ns < 1e3 => format!("{ns:.0} ns"),
            ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
            ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
            ns => format!("{:.2} s", ns / 1e9),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10}  {}  ({})", self.amount(), self.name, self.extra)
    }
}

/// Writes results as JSON.
pub(crate) fn write(path: &Path, measurements: &[Measurement]) -> Result<(), Failure> {
    check(measurements)?;
    let text = serde_json::to_string_pretty(measurements)? + "\n";
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}

/// Reads what [`write()`] wrote, or another program in the same form.
pub(crate) fn read(path: &Path) -> Result<Vec<Measurement>, Failure> {
    let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let fail = |why: &dyn fmt::Display| format!("{} holds no results: {why}", path.display());
    let measurements: Vec<_> = serde_json::from_slice(&text).map_err(|e| fail(&e))?;
    check(&measurements).map_err(|e| fail(&e))?;
    Ok(measurements)
}

/// What could not be compared is refused: dividing by zero would pass, or fail, everything.
fn check(measurements: &[Measurement]) -> Result<(), Failure> {
    if measurements.is_empty() {
        return Err("there is no benchmark in it".into());
    }
    let mut names = HashSet::new();
    for one in measurements {
        if !one.value.is_normal() || one.value < 0.0 {
            let Measurement { name, value, .. } = one;
            return Err(format!("`{name}` has the value {value}, not a positive number").into());
        }
        if !names.insert(&one.name) {
            return Err(format!("`{}` is there twice", one.name).into());
        }
    }
    Ok(())
}

/// A table in Markdown.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let mut text = String::from("| benchmark | median | least .. greatest |\n|---|---:|---:|\n");
    for one in measurements {
        let bold = if one.is_ratio() { "**" } else { "" };
        let range: Vec<_> = one
            .range
            .split(" .. ")
            .map(|end| match end.parse() {
                Ok(value) => Measurement { value, ..one.clone() }.amount(),
                Err(_) => end.to_owned(),
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {bold}{}{bold} | {} |",
            one.name.replace('|', "\\|"),
            one.amount(),
            range.join(" .. "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people() {
        let one = |name: &str, unit: &str, value, range: &str| Measurement {
            name: name.into(),
            unit: unit.into(),
            value,
            range: range.into(),
            extra: String::new(),
        };
        let text = table(&[
            one("a/ops", "ns", 1500.0, "1000 .. 2000000"),
            one("a/ops : peer: x | y", "ratio", 1.234, "1.0 .. 2.0"),
            one("a, memory/ops", "bytes", 2.5e6, "2000000 .. 3000000"),
        ]);
        assert!(text.contains("| a/ops | 1.5 µs | 1.0 µs .. 2.00 ms |"), "{text}");
        assert!(text.contains("| a, memory/ops | 2.5 MB | 2.0 MB .. 3.0 MB |"), "{text}");
        assert!(text.contains("| a/ops : peer: x \\| y | **1.23** | 1.00 .. 2.00 |"), "{text}");
    }
}
