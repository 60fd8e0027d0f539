//! Merging the lines of three texts.
//!
//! A change is a range of lines of the base and what one side has in its place. Changes of both
//! sides go together where at least one line of the base lies between them, or where they are the
//! same; this is git's rule.

use std::ops::Range;

use gix::diff::blob::sources::byte_lines;
use gix::diff::blob::{Algorithm, Diff, InternedInput, Token};

/// What became of three texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Merged {
    Clean(Vec<u8>),
    Conflict,
    /// Two ways to compare the texts merge them differently.
    Unclear,
}

/// How lines of both sides that exclude each other are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    Conflict,
    /// Ours, then theirs.
    Union,
}

/// Two conflicts of a union with at most this many lines between them are one, as git has it.
const JOINED: usize = 3;

/// As git's merge compares.
const GIT: Algorithm = Algorithm::Histogram;

/// Another way, which agrees wherever the answer is clear.
const WITNESS: Algorithm = Algorithm::Myers;

/// Merges as git's merge does. Where another comparison of the texts would merge them differently
/// the answer is that it is unclear: the lines are too alike to be sure of anything.
pub(super) fn merge(base: &[u8], ours: &[u8], theirs: &[u8], overlap: Overlap) -> Merged {
    let mut input: InternedInput<&[u8]> = InternedInput::default();
    input.update_before(byte_lines(base));
    input.update_after(byte_lines(ours));
    let ours = std::mem::take(&mut input.after);
    input.update_after(byte_lines(theirs));
    let theirs = std::mem::take(&mut input.after);
    let base = std::mem::take(&mut input.before);
    let lines = Lines { base, ours, theirs, tokens: input.interner.num_tokens() };

    let Some(merged) = lines.merge(GIT, overlap) else { return Merged::Conflict };
    if lines.merge(WITNESS, overlap).as_ref() != Some(&merged) {
        return Merged::Unclear;
    }
    let mut text = Vec::new();
    for token in merged {
        text.extend_from_slice(input.interner[token]);
    }
    Merged::Clean(text)
}

struct Lines {
    base: Vec<Token>,
    ours: Vec<Token>,
    theirs: Vec<Token>,
    tokens: u32,
}

/// One side's change: these lines of the base became those lines of the side.
#[derive(Debug, Clone)]
struct Change {
    base: Range<usize>,
    side: Range<usize>,
}

impl Lines {
    /// `None` is a conflict.
    fn merge(&self, way: Algorithm, overlap: Overlap) -> Option<Vec<Token>> {
        let ours = changes(&self.base, &self.ours, self.tokens, way);
        let theirs = changes(&self.base, &self.theirs, self.tokens, way);
        let mut out = Vec::with_capacity(self.ours.len().max(self.theirs.len()));
        let mut done = 0;
        let (mut i, mut j) = (0, 0);
        while i < ours.len() || j < theirs.len() {
            let begin = match (ours.get(i), theirs.get(j)) {
                (Some(a), Some(b)) => a.base.start.min(b.base.start),
                (Some(a), None) => a.base.start,
                (None, Some(b)) => b.base.start,
                (None, None) => break,
            };
            // Everything that touches what is already in the group belongs to it.
            let (first_i, first_j, mut end) = (i, j, begin);
            loop {
                let touches =
                    |change: Option<&Change>| change.is_some_and(|change| change.base.start <= end);
                if touches(ours.get(i)) {
                    end = end.max(ours[i].base.end);
                    i += 1;
                } else if touches(theirs.get(j)) {
                    end = end.max(theirs[j].base.end);
                    j += 1;
                } else {
                    break;
                }
            }
            out.extend_from_slice(&self.base[done..begin]);
            done = end;
            let mine = applied(&self.base, &self.ours, &ours[first_i..i], begin..end);
            let other = applied(&self.base, &self.theirs, &theirs[first_j..j], begin..end);
            if first_j == j || mine == other {
                out.extend(mine);
            } else if first_i == i {
                out.extend(other);
            } else if overlap == Overlap::Union {
                out.extend(union(&mine, &other, self.tokens, way));
            } else {
                return None;
            }
        }
        out.extend_from_slice(&self.base[done..]);
        Some(out)
    }
}

fn changes(before: &[Token], after: &[Token], tokens: u32, way: Algorithm) -> Vec<Change> {
    let mut diff = Diff::default();
    diff.compute_with(way, before, after, tokens);
    // Changes that could as well lie elsewhere are moved down as far as they go.
    let lowest = |_: &[Token], hunk: Range<u32>, _: u32| hunk.end;
    diff.postprocess_with(before, after, lowest);
    let range = |range: Range<u32>| range.start as usize..range.end as usize;
    diff.hunks().map(|hunk| Change { base: range(hunk.before), side: range(hunk.after) }).collect()
}

/// These lines of the base with the changes of one side made.
fn applied(base: &[Token], side: &[Token], changes: &[Change], within: Range<usize>) -> Vec<Token> {
    let mut lines = Vec::new();
    let mut at = within.start;
    for change in changes {
        lines.extend_from_slice(&base[at..change.base.start]);
        lines.extend_from_slice(&side[change.side.clone()]);
        at = change.base.end;
    }
    lines.extend_from_slice(&base[at..within.end]);
    lines
}

/// What both sides have, once; where they differ, ours and then theirs.
fn union(ours: &[Token], theirs: &[Token], tokens: u32, way: Algorithm) -> Vec<Token> {
    let mut joined: Vec<Change> = Vec::new();
    for change in changes(ours, theirs, tokens, way) {
        match joined.last_mut() {
            Some(last) if change.base.start - last.base.end <= JOINED => {
                last.base.end = change.base.end;
                last.side.end = change.side.end;
            }
            _ => joined.push(change),
        }
    }
    let mut lines = Vec::new();
    let mut at = 0;
    for change in joined {
        lines.extend_from_slice(&ours[at..change.base.end]);
        lines.extend_from_slice(&theirs[change.side.clone()]);
        at = change.base.end;
    }
    lines.extend_from_slice(&ours[at..]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<u8> {
        text.split_whitespace().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
    }

    #[test]
    fn changes_go_together_when_a_line_lies_between_them() {
        for (base, ours, theirs, expected) in [
            ("a b c d e", "A b c d e", "a b c d E", Some("A b c d E")),
            ("a b c d e", "A b c d e", "a b C d e", Some("A b C d e")),
            ("a b c d e", "A b c d e", "a B c d e", None),
            ("a b c d e", "A b c d e", "A b c d e", Some("A b c d e")),
            ("a b c d e", "A b c d e", "Z b c d e", None),
            ("a b c d e", "b c d e", "a b c d", Some("b c d")),
            ("a b c", "a x b c", "a b y c", Some("a x b y c")),
            ("a b c", "a x b c", "a y b c", None),
            ("a b c", "a x b c", "a x b c", Some("a x b c")),
            ("", "a", "b", None),
            ("a b c d", "a d", "a B c d", None),
        ] {
            let expected = expected.map_or(Merged::Conflict, |text| Merged::Clean(lines(text)));
            let merged = merge(&lines(base), &lines(ours), &lines(theirs), Overlap::Conflict);
            assert_eq!(merged, expected, "{base} | {ours} | {theirs}");
        }
    }

    #[test]
    fn a_union_keeps_the_lines_of_both() {
        let merged = merge(&lines("a b"), &lines("a x b"), &lines("a y b"), Overlap::Union);
        assert_eq!(merged, Merged::Clean(lines("a x y b")));
    }
}
