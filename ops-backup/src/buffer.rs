//! Memory for chunks that goes back to the system as soon as nobody has it.
//!
//! Allocators keep what is freed, each thread for itself, and pieces of megabytes that one thread
//! fills and another lets go add up to several times what is ever needed at once.

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

/// Below this the allocator is the better one.
const LARGE: usize = 128 << 10;

/// Bytes that are filled once. They begin as zeros.
pub(crate) enum Buffer {
    Small(Vec<u8>),
    Large(MmapMut),
}

impl Buffer {
    /// Memory is taken from the system as it is written.
    pub fn new(length: usize) -> Self {
        Self::map(length, &MmapOptions::new())
    }

    fn map(length: usize, options: &MmapOptions) -> Self {
        // Where the system has no more maps, the allocator may have memory.
        let map = || options.clone().len(length).map_anon().ok();
        let mapped = (length >= LARGE).then(map).flatten();
        mapped.map_or_else(|| Self::Small(vec![0; length]), Self::Large)
    }

    /// A copy of these.
    pub fn copy(bytes: &[u8]) -> Bytes {
        // All of it will be written: taken at once, it costs half of what it does page by page.
        let mut buffer = Self::map(bytes.len(), MmapOptions::new().populate());
        buffer.as_mut().copy_from_slice(bytes);
        buffer.freeze()
    }

    pub fn freeze(self) -> Bytes {
        match self {
            Self::Small(bytes) => bytes.into(),
            Self::Large(map) => Bytes::from_owner(map),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(map) => map,
        }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_ones_hold_what_they_were_given() {
        for length in [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 << 20] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            assert_eq!(Buffer::copy(&bytes), bytes, "{length}");
            assert!(Buffer::new(length).freeze().iter().all(|byte| *byte == 0), "{length}");
        }
    }
}
