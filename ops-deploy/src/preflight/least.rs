//! Versions of programs, as numbers.

use std::fmt;

use ops_core::Refusal;

/// The least version that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Least(String);

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Least {
    pub(super) fn of(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    pub(super) fn wrong(&self) -> Option<Refusal> {
        let numbers = self.0.split('.').all(|part| part.parse::<u32>().is_ok());
        let why = format!("`{}` is no version to ask for", self.0);
        (!numbers).then(|| Refusal::new(why, "give numbers with dots between them: 15.4"))
    }

    /// Whether this version, as [`found`] in a text, is as new.
    pub(super) fn is_met_by(&self, found: &str) -> bool {
        let numbers = |text: &str| -> Vec<u64> {
            text.split('.').map(|part| part.parse().unwrap_or(u64::MAX)).collect()
        };
        let (mut least, mut found) = (numbers(&self.0), numbers(found));
        let longest = least.len().max(found.len());
        least.resize(longest, 0);
        found.resize(longest, 0);
        found >= least
    }
}

/// The version in a text: the first number with a dot in it, else the first number.
pub(super) fn found(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let numbers = || {
        text.split(|c| !is_part(c))
            .map(|word| word.trim_matches('.'))
            .filter(|word| !word.is_empty() && word.split('.').all(|part| !part.is_empty()))
    };
    numbers().find(|word| word.contains('.')).or_else(|| numbers().next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared_by_number() {
        for (text, version) in [
            ("20.10.24+dfsg1", Some("20.10.24")),
            ("psql (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", Some("15.14")),
            ("17beta1", Some("17")),
            ("git version 2 of 3.1.", Some("3.1")),
            ("none", None),
            ("..", None),
        ] {
            assert_eq!(found(text).as_deref(), version, "{text}");
        }
        for (least, version, met) in [
            ("20.10", "20.10.24", true),
            ("20.10", "20.10", true),
            ("20.10.1", "20.10", false),
            ("9", "10", true),
            ("1.41", "1.5", false),
            ("16", "15.14", false),
        ] {
            assert_eq!(Least::of(least).is_met_by(version), met, "{version} for {least}");
        }
        assert!(Least::of("15.x").wrong().is_some() && Least::of("15").wrong().is_none());
    }
}
