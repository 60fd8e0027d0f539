//! Where secrets stand in a text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, Match, MatchKind, StartKind};

use super::Secret;
use super::forms;

/// From this many characters on, a secret is found within words too.
const SHORT: usize = 4;

/// A `user:password@host` is looked for within this many bytes after `://`.
const AUTHORITY: usize = 1024;

/// The secrets that are known, ready to be found.
#[derive(Default)]
pub(super) struct Search {
    pub(super) secrets: Vec<Secret>,
    long: Option<AhoCorasick>,
    /// For each pattern of `long`, whether it is one of base64.
    base64: Vec<bool>,
    short: Vec<Secret>,
    longest: usize,
    /// Whether a secret can go on after a line break.
    pub(super) over_lines: bool,
}

impl Search {
    pub(super) fn new(secrets: Vec<Secret>) -> Self {
        let is_short = |secret: &&Secret| secret.expose().chars().count() < SHORT;
        let (short, long): (Vec<_>, Vec<_>) = secrets.iter().partition(is_short);
        let mut patterns: Vec<(String, bool)> = Vec::new();
        for secret in &long {
            patterns.extend(forms::escaped(secret.expose()).into_iter().map(|form| (form, false)));
            patterns.extend(forms::base64(secret.expose()).into_iter().map(|form| (form, true)));
        }
        let long = (!patterns.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .start_kind(StartKind::Both)
                // A tenth of the memory of a table of all transitions, at nearly its speed.
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(patterns.iter().map(|(pattern, _)| pattern))
                .expect("fewer than 2^31 bytes of secrets")
        });
        Self {
            long,
            short: short.into_iter().cloned().collect(),
            longest: patterns.iter().map(|(pattern, _)| pattern.len()).max().unwrap_or(0),
            over_lines: patterns.iter().any(|(pattern, _)| pattern.contains('\n')),
            base64: patterns.into_iter().map(|(_, base64)| base64).collect(),
            secrets,
        }
    }

    /// How far back from its end a text must be known before it can be told whether a secret, or
    /// a password in a URL, stands there.
    pub(super) fn reach(&self) -> usize {
        // Percent-encoding takes three bytes for one; base64 takes up to three more at its end,
        // and one before it.
        (self.longest * 3 + 4).max(AUTHORITY + 4)
    }

    /// Whether a known secret stands in the text.
    pub(super) fn finds(&self, text: &[u8]) -> bool {
        let long = |text: &[u8]| self.long.as_ref().is_some_and(|long| long.is_match(text));
        if long(text) || !self.short_spans(text, None, &[]).is_empty() {
            return true;
        }
        let mut encoded = false;
        self.encoded_spans(text, |_| encoded = true);
        encoded
    }

    /// What must not be shown: sorted, and apart from each other. `before` is the byte that comes
    /// before the text.
    pub(super) fn spans(&self, text: &[u8], before: Option<u8>) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        self.long_spans(text, |span| spans.push(span));
        self.encoded_spans(text, |span| spans.push(span));
        passwords(text, before, &mut spans);
        let mut spans = united(spans);
        let short = self.short_spans(text, before, &spans);
        if !short.is_empty() {
            spans.extend(short);
            spans = united(spans);
        }
        spans
    }

    /// Every match, overlapping ones too: of two secrets that share bytes no half stays.
    fn long_spans(&self, text: &[u8], mut add: impl FnMut(Range<usize>)) {
        let Some(long) = &self.long else { return };
        let mut at = 0;
        while let Some(found) = long.find(Input::new(text).range(at..)) {
            add(self.widened(text, found));
            at = found.start() + 1;
        }
    }

    /// What is to be hidden of a match: of one of base64 also the characters beside the stable ones, which
    /// hold the secret's first and last bits.
    fn widened(&self, text: &[u8], found: Match) -> Range<usize> {
        let mut span = found.range();
        if self.base64[found.pattern().as_usize()] {
            let is = |i: usize| text.get(i).copied().is_some_and(forms::is_base64);
            span.start -= usize::from(span.start > 0 && is(span.start - 1));
            span.end += usize::from(is(span.end));
        }
        span
    }

    /// Those that are percent-encoded.
    fn encoded_spans(&self, text: &[u8], mut add: impl FnMut(Range<usize>)) {
        let Some(long) = &self.long else { return };
        let Some(mut decoded) = Decoded::of(text) else { return };
        self.long_spans(&decoded.bytes, |span| add(decoded.in_text(span)));
        // A `%` that stands before a secret by chance seems to begin an escape, which takes the first
        // letters of the secret. So it is also looked for what begins with these.
        for at in std::mem::take(&mut decoded.escapes) {
            let letters = decoded.from[at] + 1;
            let kept = [decoded.bytes[at - 1], decoded.bytes[at]];
            let rest = &mut decoded.bytes[at - 1..];
            rest[..2].copy_from_slice(&text[letters..letters + 2]);
            for first in 0..2 {
                let input = Input::new(rest).range(first..).anchored(Anchored::Yes);
                if let Some(found) = long.find(input) {
                    let span = self.widened(rest, found);
                    add(letters + span.start..decoded.from[at - 1 + span.end]);
                }
            }
            rest[..2].copy_from_slice(&kept);
        }
    }

    fn short_spans(
        &self,
        text: &[u8],
        before: Option<u8>,
        covered: &[Range<usize>],
    ) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let is_covered = |i: usize| covered.iter().any(|span| span.contains(&i));
        let is_word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        for secret in &self.short {
            let secret = secret.expose().as_bytes();
            for (i, _) in text.windows(secret.len()).enumerate().filter(|(_, at)| *at == secret) {
                let end = i + secret.len();
                let left = i.checked_sub(1).map_or(before, |i| text.get(i).copied());
                let left = is_word(left) && !i.checked_sub(1).is_some_and(is_covered);
                if !left && (!is_word(text.get(end).copied()) || is_covered(end)) {
                    spans.push(i..end);
                }
            }
        }
        spans
    }
}

/// Joins spans that share bytes.
pub(super) fn united(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_unstable_by_key(|span| span.start);
    let mut united: Vec<Range<usize>> = Vec::with_capacity(spans.len());
    for span in spans {
        match united.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => united.push(span),
        }
    }
    united
}

/// The passwords of `scheme://user:password@host`.
fn passwords(text: &[u8], before: Option<u8>, spans: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(|byte| *byte == b':') {
        let colon = at + found;
        at = colon + 1;
        let scheme = colon.checked_sub(1).map_or(before, |i| text.get(i).copied());
        if !text[at..].starts_with(b"//") || !scheme.is_some_and(|c| c.is_ascii_alphanumeric()) {
            continue;
        }
        at += 2;
        let rest = &text[at..text.len().min(at + AUTHORITY)];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"/?#\"<>`".contains(byte);
        let authority = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let Some(host) = authority.iter().rposition(|byte| *byte == b'@') else { continue };
        let Some(user) = authority[..host].iter().position(|byte| *byte == b':') else { continue };
        if user + 1 < host {
            spans.push(at + user + 1..at + host);
        }
    }
}

/// A text whose percent-encoding is undone, and where each byte of it came from. Before it is one byte
/// of nothing.
struct Decoded {
    bytes: Vec<u8>,
    from: Vec<usize>,
    /// Which bytes are escapes.
    escapes: Vec<usize>,
}

impl Decoded {
    /// Nothing if the text has no percent-encoding.
    fn of(text: &[u8]) -> Option<Self> {
        let first = text.iter().position(|byte| *byte == b'%')?;
        let hex = |i: usize| char::from(*text.get(i)?).to_digit(16);
        let mut bytes = [&[0], &text[..first]].concat();
        let mut from: Vec<_> = [0].into_iter().chain(0..first).collect();
        let (mut i, mut escapes) = (first, Vec::new());
        while let Some(byte) = text.get(i) {
            from.push(i);
            if let (b'%', Some(high), Some(low)) = (byte, hex(i + 1), hex(i + 2)) {
                escapes.push(bytes.len());
                bytes.push((high << 4 | low) as u8);
                i += 3;
            } else {
                bytes.push(*byte);
                i += 1;
            }
        }
        from.push(text.len());
        (!escapes.is_empty()).then_some(Self { bytes, from, escapes })
    }

    fn in_text(&self, span: Range<usize>) -> Range<usize> {
        self.from[span.start]..self.from[span.end]
    }
}
