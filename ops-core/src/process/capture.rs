//! What is kept of an output while it streams by: redacted first, then capped.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::output::Stream;
use super::{OutputObserver, RunContext};
use crate::secret::RedactingStream;

/// A line of more bytes is shown to the observer in pieces.
const LINE_CAP: usize = 64 * 1024;

/// One output of a child.
#[derive(Debug)]
pub(super) struct Capture {
    stream: Stream,
    redacting: RedactingStream,
    kept: HeadAndTail,
    observer: Option<Arc<dyn OutputObserver>>,
    line: Vec<u8>,
}

impl Capture {
    pub(super) fn new(stream: Stream, cap: usize, cx: &RunContext) -> Self {
        Self {
            stream,
            redacting: RedactingStream::new(cx.redactor.clone()),
            kept: HeadAndTail::new(cap),
            observer: cx.observer.clone(),
            line: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let shown = self.redacting.push(bytes);
        self.keep(&shown);
    }

    /// What is kept, and whether that is not all.
    pub(super) fn finish(&mut self) -> (Vec<u8>, bool) {
        let shown = self.redacting.finish();
        self.keep(&shown);
        if !self.line.is_empty() {
            self.show_line();
        }
        self.kept.take()
    }

    fn keep(&mut self, shown: &[u8]) {
        self.kept.push(shown);
        if self.observer.is_none() {
            return;
        }
        for piece in shown.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(LINE_CAP) {
                if self.line.len() + piece.len() > LINE_CAP {
                    self.show_line();
                }
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.show_line();
            }
        }
    }

    fn show_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let Some(observer) = &self.observer else { return };
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        if catch_unwind(AssertUnwindSafe(|| observer.line(self.stream, &text))).is_err() {
            self.observer = None;
        }
    }
}

/// The first and the last bytes of a stream.
#[derive(Debug)]
struct HeadAndTail {
    head: Vec<u8>,
    head_cap: usize,
    tail: VecDeque<u8>,
    tail_cap: usize,
    left_out: u64,
}

impl HeadAndTail {
    fn new(cap: usize) -> Self {
        let head_cap = cap / 2;
        Self {
            head: Vec::new(),
            head_cap,
            tail: VecDeque::new(),
            tail_cap: cap - head_cap,
            left_out: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_cap - self.head.len()));
        self.head.extend_from_slice(head);
        let keep = &rest[rest.len().saturating_sub(self.tail_cap)..];
        let over = (self.tail.len() + keep.len()).saturating_sub(self.tail_cap);
        self.tail.drain(..over);
        self.tail.extend(keep);
        self.left_out += (rest.len() - keep.len() + over) as u64;
    }

    fn take(&mut self) -> (Vec<u8>, bool) {
        let mut kept = std::mem::take(&mut self.head);
        let mut tail = Vec::from(std::mem::take(&mut self.tail));
        if self.left_out > 0 {
            // No half of a character at the cuts, where the text is UTF-8.
            let begun = kept.iter().rev().take(3).position(|byte| *byte >= 0xc0);
            if let Some(back) = begun
                && std::str::from_utf8(&kept[kept.len() - 1 - back..]).is_err()
            {
                kept.truncate(kept.len() - 1 - back);
                self.left_out += back as u64 + 1;
            }
            let half = tail.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
            tail.drain(..half);
            self.left_out += half as u64;
            kept.extend(format!("\n[{} bytes left out]\n", self.left_out).into_bytes());
        }
        kept.append(&mut tail);
        (kept, self.left_out > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::secret::{Redactor, Secret};

    #[test]
    fn head_and_tail_are_kept() {
        let check = |cap: usize, text: &str, expected: &str| {
            for piece in [1, 2, 3, 100] {
                let mut kept = HeadAndTail::new(cap);
                text.as_bytes().chunks(piece).for_each(|piece| kept.push(piece));
                let (bytes, truncated) = kept.take();
                assert_eq!(String::from_utf8(bytes).unwrap(), expected, "in pieces of {piece}");
                assert_eq!(truncated, text != expected);
            }
        };
        check(10, "0123456789", "0123456789");
        check(4, "0123456789", "01\n[6 bytes left out]\n89");
        check(5, "0123456789", "01\n[5 bytes left out]\n789");
        check(0, "0123", "\n[4 bytes left out]\n");
        check(6, "ab\u{e9}-----\u{e9}yz", "ab\n[9 bytes left out]\nyz");
        check(8, "ab\u{e9}-----\u{e9}yz", "ab\u{e9}\n[5 bytes left out]\n\u{e9}yz");
    }

    #[derive(Debug, Default)]
    struct Lines(Mutex<Vec<String>>);

    impl OutputObserver for Arc<Lines> {
        fn line(&self, stream: Stream, line: &str) {
            assert!(line != "panic", "a bug in the observer");
            self.0.lock().unwrap().push(format!("{stream}:{line}"));
        }
    }

    #[test]
    fn the_observer_sees_redacted_lines() {
        let lines = Arc::new(Lines::default());
        let redactor = Redactor::default();
        redactor.add(&Secret::new("hunter2"));
        let cx = RunContext::default().redactor(redactor).observer(lines.clone());
        let mut capture = Capture::new(Stream::Stderr, 10, &cx);
        capture.push(b"one\r\ntwo hun");
        assert_eq!(*lines.0.lock().unwrap(), ["stderr:one"]);
        capture.push(b"ter2\n\nlast");
        capture.finish();
        let expected = ["stderr:one", "stderr:two [redacted]", "stderr:", "stderr:last"];
        assert_eq!(*lines.0.lock().unwrap(), expected);

        let mut capture = Capture::new(Stream::Stdout, 100, &cx);
        capture.push(&vec![b'x'; LINE_CAP * 3]);
        capture.push(b"\npanic\nafter\n");
        assert_eq!(capture.finish(), (capture_text(), true));
        let lengths: Vec<_> = lines.0.lock().unwrap()[4..].iter().map(String::len).collect();
        assert!(lengths.len() >= 3 && lengths.iter().all(|l| *l <= LINE_CAP + 7), "{lengths:?}");
        let total: usize = lengths.iter().map(|length| length - "stdout:".len()).sum();
        assert_eq!(total, LINE_CAP * 3, "all of it, and nothing after the panic");
    }

    fn capture_text() -> Vec<u8> {
        let left_out = LINE_CAP * 3 + "\npanic\nafter\n".len() - 100;
        let (x50, x37) = ("x".repeat(50), "x".repeat(37));
        format!("{x50}\n[{left_out} bytes left out]\n{x37}\npanic\nafter\n").into_bytes()
    }
}
