//! Where a stream is cut into chunks: by its content, so that an insertion moves no other cut.

use bytes::Bytes;
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

use crate::buffer::Buffer;

/// What is pushed at once is seldom more.
const PIECE: usize = 256 << 10;
/// What FastCDC can do.
const LEAST: usize = 1024;
const MOST: usize = 16 << 20;

/// Cuts what is pushed into chunks of an eighth of `chunk_size` to all of it, on average about a
/// quarter. Holds `chunk_size` and one piece.
pub(crate) struct Cutter {
    buffer: Window,
    /// Whether what is there has no cut but the one that comes when there is no more room.
    tried: bool,
    least: usize,
    average: usize,
    most: usize,
    masks: (u64, u64),
    gear: (Vec<u64>, Vec<u64>),
}

impl Cutter {
    pub fn new(chunk_size: usize, seed: u64) -> Self {
        let most = chunk_size.clamp(LEAST, MOST).next_multiple_of(32);
        let average = (most / 4).next_multiple_of(2);
        let (gear, gear_ls) = get_gear_with_seed(seed);
        Self {
            buffer: Window::new(most + PIECE),
            tried: false,
            // Half of the average: what is below it is not searched, and with normalised chunking that
            // finds nearly as much again (Xia et al., "The Design of Fast Content-Defined Chunking for
            // Data Deduplication Based Storage Systems", 2020).
            least: (average / 2).next_multiple_of(2),
            average,
            most,
            masks: select_masks(average, Normalization::Level2),
            gear: (gear.into_owned(), gear_ls.into_owned()),
        }
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend(piece);
    }

    /// The next chunk of which the end is sure.
    pub fn next(&mut self) -> Option<Bytes> {
        if self.buffer.bytes().len() >= self.most {
            return self.rest();
        }
        // Where the hash says so before the end of what is there, it says so whatever follows. Most
        // chunks end before twice the average; so most of the time half of the room is enough.
        let bytes = self.buffer.bytes();
        if self.tried || bytes.len() < 2 * self.average {
            return None;
        }
        let length = self.cut(bytes);
        self.tried = length == bytes.len();
        (!self.tried).then(|| self.take(length))
    }

    /// The next chunk when nothing more is pushed.
    pub fn rest(&mut self) -> Option<Bytes> {
        let bytes = self.buffer.bytes();
        if bytes.is_empty() {
            return None;
        }
        let length = self.cut(&bytes[..bytes.len().min(self.most)]);
        Some(self.take(length))
    }

    /// How long the next chunk is, if nothing follows this window.
    fn cut(&self, window: &[u8]) -> usize {
        let (small, large) = self.masks;
        let (gear, gear_ls) = &self.gear;
        let (_, length) = cut_gear(
            window,
            self.least,
            self.average,
            self.most,
            small,
            large,
            small << 1,
            large << 1,
            gear,
            gear_ls,
        );
        length.clamp(1, window.len())
    }

    fn take(&mut self, length: usize) -> Bytes {
        let chunk = Buffer::copy(&self.buffer.bytes()[..length]);
        self.buffer.drop_first(length);
        self.tried = false;
        chunk
    }
}

/// What is pushed and not yet cut, in memory that is not the allocator's: one that grew and went with
/// each stream would leave holes of megabytes there.
struct Window {
    memory: Buffer,
    room: usize,
    begin: usize,
    end: usize,
}

impl Window {
    fn new(room: usize) -> Self {
        Self { memory: Buffer::new(room), room, begin: 0, end: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory.as_ref()[self.begin..self.end]
    }

    fn extend(&mut self, piece: &[u8]) {
        if self.memory.as_ref().len() - self.end < piece.len() {
            self.make_room(piece.len());
        }
        self.memory.as_mut()[self.end..self.end + piece.len()].copy_from_slice(piece);
        self.end += piece.len();
    }

    /// Moves the bytes to the beginning; where that is not enough, into larger memory.
    fn make_room(&mut self, more: usize) {
        let (length, need) = (self.end - self.begin, self.end - self.begin + more);
        if need > self.memory.as_ref().len() {
            let mut larger = Buffer::new(need.next_power_of_two());
            larger.as_mut()[..length].copy_from_slice(self.bytes());
            self.memory = larger;
        } else {
            self.memory.as_mut().copy_within(self.begin..self.end, 0);
        }
        (self.begin, self.end) = (0, length);
    }

    fn drop_first(&mut self, length: usize) {
        self.begin += length;
        // What a large piece took goes back as soon as the usual room is enough.
        if self.memory.as_ref().len() > self.room && self.bytes().len() <= self.room {
            let mut usual = Buffer::new(self.room);
            let length = self.bytes().len();
            usual.as_mut()[..length].copy_from_slice(self.bytes());
            (self.memory, self.begin, self.end) = (usual, 0, length);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn cut(bytes: &[u8], piece: usize, size: usize, seed: u64) -> Vec<Bytes> {
        let mut cutter = Cutter::new(size, seed);
        let mut chunks = Vec::new();
        for piece in bytes.chunks(piece) {
            cutter.push(piece);
            while let Some(chunk) = cutter.next() {
                chunks.push(chunk);
            }
        }
        while let Some(chunk) = cutter.rest() {
            chunks.push(chunk);
        }
        chunks
    }

    fn noise(length: u32) -> Vec<u8> {
        let word = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 29).to_le_bytes();
        (0..length / 4).flat_map(word).collect()
    }

    #[test]
    fn an_insertion_moves_no_cut_but_its_own() {
        let old = noise(1 << 20);
        let mut new = old.clone();
        new.splice(500_000..500_000, *b"inserted");
        let known: HashSet<_> = cut(&old, 4096, 16 << 10, 7).into_iter().collect();
        let chunks = cut(&new, 999, 16 << 10, 7);
        let fresh = chunks.iter().filter(|chunk| !known.contains(*chunk)).count();
        assert!(chunks.len() > 100 && fresh <= 3, "{fresh} of {}", chunks.len());
        let elsewhere = cut(&old, 4096, 16 << 10, 8);
        let same = elsewhere.iter().filter(|chunk| known.contains(*chunk)).count();
        assert!(same < elsewhere.len() / 4, "another seed cuts elsewhere: {same}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_pieces(
            length in 0_u32..200_000, piece in 1_usize..50_000, size in 0_usize..50_000, seed: u64,
        ) {
            let bytes = noise(length);
            let chunks = cut(&bytes, piece, size, seed);
            prop_assert_eq!(chunks.concat(), bytes.clone());
            prop_assert!(chunks.iter().all(|c| !c.is_empty() && c.len() <= size.max(LEAST) + 32));
            prop_assert_eq!(&chunks, &cut(&bytes, 4096, size, seed), "pieces do not matter");
            prop_assert_eq!(&chunks, &cut(&bytes, 1 << 20, size, seed), "not even all at once");
        }
    }
}
