//! Redaction of what arrives in pieces.

use super::REDACTED;
use super::redactor::Redactor;
use super::search::united;

/// Redacts a stream that arrives in pieces, wherever they are cut.
///
/// What could still turn out to be the beginning of a secret is held back: at most the rest of the
/// line after the last line break, unless a known secret has several lines, and never more than
/// three times the longest form of a secret, or 1 KiB where that is more.
///
/// ```
/// use ops_core::secret::{RedactingStream, Redactor, Secret};
///
/// let redactor = Redactor::default();
/// redactor.add(&Secret::new("hunter2"));
/// let mut stream = RedactingStream::new(redactor);
/// assert_eq!(stream.push(b"ready\ntoken hun"), b"ready\n");
/// assert_eq!(stream.push(b"ter2\n"), b"token [redacted]\n");
/// assert_eq!(stream.finish(), b"");
/// ```
#[derive(Debug)]
pub struct RedactingStream {
    redactor: Redactor,
    held: Vec<u8>,
    /// So many of the held bytes belong to a secret whose mark is written already.
    marked: usize,
    before: Option<u8>,
}

impl RedactingStream {
    /// A stream without secrets that this redactor knows; also those that it learns meanwhile, from
    /// then on.
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, held: Vec::new(), marked: 0, before: None }
    }

    /// Takes a piece, and gives what may be shown.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let search = self.redactor.search();
        let mut cut = self.held.len().saturating_sub(search.reach());
        if !search.over_lines
            && let Some(line_break) = self.held.iter().rposition(|byte| *byte == b'\n')
        {
            cut = cut.max(line_break + 1);
        }
        if cut == 0 { Vec::new() } else { self.show(cut) }
    }

    /// The end of the stream: gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        self.show(self.held.len())
    }

    fn show(&mut self, cut: usize) -> Vec<u8> {
        let mut spans = self.redactor.search().spans(&self.held, self.before);
        if self.marked > 0 {
            spans.push(0..self.marked);
            spans = united(spans);
        }
        let mut shown = Vec::with_capacity(cut);
        let mut at = 0;
        let marked = std::mem::take(&mut self.marked);
        for span in spans.into_iter().take_while(|span| span.start < cut) {
            shown.extend_from_slice(&self.held[at..span.start]);
            if span.start > 0 || marked == 0 {
                shown.extend_from_slice(REDACTED.as_bytes());
            }
            at = span.end.min(cut);
            self.marked = span.end.saturating_sub(cut);
        }
        shown.extend_from_slice(&self.held[at..cut]);
        self.before = cut.checked_sub(1).map_or(self.before, |last| Some(self.held[last]));
        self.held.drain(..cut);
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    fn knows(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        for secret in secrets {
            redactor.add(&Secret::new(*secret));
        }
        redactor
    }

    fn stream(redactor: &Redactor, text: &[u8], piece: usize) -> String {
        let mut stream = RedactingStream::new(redactor.clone());
        let mut shown: Vec<u8> = text.chunks(piece).flat_map(|piece| stream.push(piece)).collect();
        shown.extend(stream.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn whole_lines_are_shown_at_once_and_little_is_held() {
        let mut lines = RedactingStream::new(knows(&["hunter2"]));
        assert_eq!(lines.push(b"a\nb\nhunt"), b"a\nb\n");
        assert_eq!(lines.finish(), b"hunt");
        let mut keys = RedactingStream::new(knows(&["two\nlines"]));
        assert_eq!(keys.push(b"a\ntwo\n"), b"", "a secret may go on in the next line");
        assert_eq!(keys.push(b"lines"), b"");
        assert_eq!(keys.finish(), b"a\n[redacted]");
        let mut endless = RedactingStream::new(knows(&["aaaa"]));
        let shown: usize = (0..200).map(|_| endless.push(&[b'a'; 1000]).len()).sum();
        assert_eq!(shown, "[redacted]".len(), "one secret without end");
        assert!(endless.held.len() < 4000);
    }

    proptest! {
        #[test]
        fn pieces_show_what_the_whole_shows(
            text in "[a-c \n]{0,40}(abcabcab|%61bcabcab|YWJjYWJjYWI=|u://x:y@h|ab|)[a-c \n]{0,40}",
            filler in 0..1200_usize,
            lines in any::<bool>(),
            piece in 1..50_usize,
        ) {
            let redactor = knows(&["abcabcab", "ab", if lines { "caca\nbbb" } else { "cacabbb" }]);
            let text = format!("{}{text}{text}", "-".repeat(filler));
            prop_assert_eq!(stream(&redactor, text.as_bytes(), piece), redactor.redact(&text));
        }
    }
}
