//! Runs a program and reads its answer.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use serde_json::Value;

pub struct Answer {
    pub code: i32,
    pub json: Value,
    pub out: String,
    pub err: String,
}

/// Runs a program with these words, then `more`; nobody sits at a terminal.
pub fn run<S: AsRef<OsStr>>(program: &str, words: &str, more: &[S]) -> Answer {
    // What hangs is killed, and has no answer.
    let output = Command::new("timeout")
        .args(["--signal=KILL", "120"])
        .arg(program)
        .args(words.split_whitespace())
        .args(more)
        .env_remove("OPS_STATE_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    Answer {
        code: output.status.code().unwrap(),
        json: serde_json::from_str(&out).unwrap_or_default(),
        out,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Answer {
    /// It ended with this code, and with one JSON object that says the same.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        if code != 2 {
            assert_eq!(self.json["exit_code"], code, "{}\n{}", self.out, self.err);
            assert_eq!(self.out.trim().lines().count(), 1, "{}", self.out);
        }
        self
    }
}
