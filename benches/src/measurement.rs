//! One result, in the JSON that benchmark-tracking CI actions read: an array of objects with
//! `name`, `unit`, `value` and `range`, where smaller is better.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// `group/function`.
    pub name: String,
    /// Always `ns`.
    pub unit: String,
    /// The mean.
    pub value: f64,
    /// Half of the 95 % confidence interval of the mean.
    pub range: String,
}

/// Reads what criterion left: `<group>/<function>/new/{benchmark,estimates}.json`.
pub(crate) fn collect(results: &Path) -> Result<Vec<Measurement>, crate::Failure> {
    let mut measurements = Vec::new();
    for entry in walkdir::WalkDir::new(results).sort_by_file_name() {
        let entry = entry?;
        let in_new = entry.path().parent().is_some_and(|folder| folder.ends_with("new"));
        if !in_new || entry.file_name() != "estimates.json" {
            continue;
        }
        let json = |path: &Path| -> Result<Value, crate::Failure> {
            Ok(serde_json::from_slice(&std::fs::read(path)?)?)
        };
        let about = json(&entry.path().with_file_name("benchmark.json"))?;
        let mean = &json(entry.path())?["mean"];
        let number = |value: &Value| value.as_f64().ok_or("criterion's results have another form");
        let interval = &mean["confidence_interval"];
        let half = (number(&interval["upper_bound"])? - number(&interval["lower_bound"])?) / 2.0;
        measurements.push(Measurement {
            name: about["full_id"].as_str().ok_or("a benchmark without a name")?.to_owned(),
            unit: "ns".to_owned(),
            value: number(&mean["point_estimate"])?,
            range: format!("± {half:.0}"),
        });
    }
    if measurements.is_empty() {
        return Err(format!("no results in {}", results.display()).into());
    }
    Ok(measurements)
}

/// A table in Markdown, with the ratio of each of ours to each of its peers.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let mut text = String::from("| benchmark | time | ours / peer |\n|---|---:|---:|\n");
    for one in measurements {
        let ours = one.name.split('/').next().and_then(|group| {
            let ours = format!("{group}/ops");
            measurements.iter().find(|other| other.name == ours)
        });
        let ratio = match ours {
            Some(ours) if one.name.contains("/peer: ") => format!("{:.2}", ours.value / one.value),
            _ => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {ratio} |", one.name, human(one.value));
    }
    text
}

fn human(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_gives_ratios_to_peers() {
        let one = |name: &str, value| Measurement {
            name: name.into(),
            unit: "ns".into(),
            value,
            range: "± 0".into(),
        };
        let text = table(&[one("append/ops", 1500.0), one("append/peer: bare", 1000.0)]);
        assert!(text.contains("| append/ops | 1.5 µs |  |"), "{text}");
        assert!(text.contains("| append/peer: bare | 1.0 µs | 1.50 |"), "{text}");
    }
}
