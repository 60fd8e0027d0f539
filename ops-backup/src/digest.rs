//! Digests as lower-case hexadecimal.

use sha2::{Digest as _, Sha256};

#[derive(Debug, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest of the plain bytes of a unit: BLAKE3, and SHA-256 in manifests before format 6. In an
/// encrypted repository it is keyed: a plain one would tell who guesses the bytes that he is right.
pub(crate) enum PlainDigest {
    Sha256(Hasher),
    Blake3(Box<blake3::Hasher>),
}

impl PlainDigest {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// What a manifest calls `plain_sha256` and `plain_blake3`; one of them is empty.
    pub fn finish(self) -> (String, String) {
        match self {
            Self::Sha256(hasher) => (hasher.finish(), String::new()),
            Self::Blake3(hasher) => (String::new(), hasher.finalize().to_hex().to_string()),
        }
    }
}
