//! The end of a service's log, for errors.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

const LINES: usize = 5;
const BYTES: u64 = 2048;

/// The last lines of a log, on one line, with what would disturb a terminal or a log left out;
/// `None` if there are none.
pub(crate) fn log_tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES))).ok()?;
    let mut end = Vec::new();
    file.take(BYTES).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join(" | ");
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_one_harmless_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(log_tail(&path), None);
        let long: String = (0..999).fold(String::new(), |text, n| text + &format!("line {n}\n"));
        std::fs::write(&path, long + "\x1b[31mred\n\n").unwrap();
        assert_eq!(log_tail(&path).unwrap(), "line 995 | line 996 | line 997 | line 998 | [31mred");
    }
}
