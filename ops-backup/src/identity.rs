//! The identity of an encrypted repository: what its chunks are encrypted to, what names them, and
//! what authenticates its manifests.
//!
//! As text it is an age identity file, so `age --decrypt --identity` reads it as it is; the two
//! other keys stand in its comments.

use std::io::{Read as _, Write as _};
use std::iter;

use age::secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

const TITLE: &str = "# ops-backup repository identity 1";
const CONTENT: &str = "# content key: ";
const MAC: &str = "# manifest key: ";

/// The keys of an encrypted repository.
pub(crate) struct Identity {
    age: age::x25519::Identity,
    content: Zeroizing<[u8; 32]>,
    mac: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("recipient", &self.recipient()).finish_non_exhaustive()
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|e| Error::new(ErrorKind::Io, "the system gives no random bytes").caused_by(e))?;
    Ok(bytes)
}

impl Identity {
    pub fn generate() -> Result<Self, Error> {
        Ok(Self { age: age::x25519::Identity::generate(), content: random()?, mac: random()? })
    }

    /// The public key, which `format.json` holds.
    pub fn recipient(&self) -> String {
        self.age.to_public().to_string()
    }

    pub fn to_text(&self) -> Zeroizing<String> {
        let [content, mac] =
            [&self.content, &self.mac].map(|key| Zeroizing::new(hex::encode(**key)));
        let age = self.age.to_string();
        let age = age.expose_secret();
        Zeroizing::new(format!("{TITLE}\n{CONTENT}{}\n{MAC}{}\n{age}\n", *content, *mac))
    }

    /// Nothing if the text is no identity of a repository.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let key = |line: Option<&str>, name| {
            let mut key = Zeroizing::new([0; 32]);
            hex::decode_to_slice(line?.strip_prefix(name)?, &mut *key).ok()?;
            Some(key)
        };
        lines.next().filter(|line| *line == TITLE)?;
        let (content, mac) = (key(lines.next(), CONTENT)?, key(lines.next(), MAC)?);
        Some(Self { age: lines.next()?.parse().ok()?, content, mac })
    }

    /// The name of a content, which says nothing to who has no key.
    pub fn content_id(&self, plain: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.content, plain).as_bytes()
    }

    /// A digest that whoever knows the bytes cannot compute without the key.
    pub fn content_hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.content)
    }

    /// A digest of a table's rows that only who has the key can compute.
    pub fn table_digest(&self, table: &str, content: &str) -> blake3::Hash {
        let key = blake3::keyed_hash(&self.content, b"ops-backup: rows of a table");
        // The name's length first, so that no other name and content give the same bytes.
        let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
        hasher.update(&(table.len() as u64).to_le_bytes());
        hasher.update(table.as_bytes()).update(content.as_bytes()).finalize()
    }

    /// Where content is cut depends on this number, so sizes of chunks give no content away.
    pub fn cut_seed(&self) -> u64 {
        let digest = blake3::keyed_hash(&self.content, b"ops-backup: where content is cut");
        u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap_or_default())
    }

    pub fn mac(&self, bytes: &[u8]) -> String {
        blake3::keyed_hash(&self.mac, bytes).to_hex().to_string()
    }

    /// Compared in constant time.
    pub fn is_mac(&self, bytes: &[u8], mac: &str) -> bool {
        let one_way = |hash: &blake3::Hash| hash.to_hex().as_str() == mac;
        blake3::Hash::from_hex(mac)
            .is_ok_and(|hash| blake3::keyed_hash(&self.mac, bytes) == hash && one_way(&hash))
    }

    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        encrypt_to(&self.age.to_public(), plain)
    }

    /// Decrypts `limit` bytes at most.
    pub fn decrypt(&self, stored: &[u8], limit: u64) -> Result<Vec<u8>, age::DecryptError> {
        decrypt_with(&self.age, stored, limit)
    }
}

pub(crate) fn encrypt_to(recipient: &dyn age::Recipient, plain: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = || Error::new(ErrorKind::InvalidInput, "age cannot encrypt");
    let encryptor = age::Encryptor::with_recipients(iter::once(recipient))
        .map_err(|e| failed().caused_by(e))?;
    // A header, and 16 bytes for each 64 KiB.
    let mut stored = Vec::with_capacity(plain.len() + plain.len() / 4096 + 512);
    let mut writer = encryptor.wrap_output(&mut stored).map_err(|e| failed().caused_by(e))?;
    writer.write_all(plain).and_then(|()| writer.finish()).map_err(|e| failed().caused_by(e))?;
    Ok(stored)
}

pub(crate) fn decrypt_with(
    identity: &dyn age::Identity,
    stored: &[u8],
    limit: u64,
) -> Result<Vec<u8>, age::DecryptError> {
    let reader = age::Decryptor::new_buffered(stored)?.decrypt(iter::once(identity))?;
    let mut plain = Vec::new();
    reader.take(limit).read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_same_after_it_was_text() {
        let one = Identity::generate().unwrap();
        let two = Identity::from_text(&one.to_text()).unwrap();
        assert_eq!(one.recipient(), two.recipient());
        assert_eq!(one.content_id(b"x"), two.content_id(b"x"));
        assert_eq!(one.cut_seed(), two.cut_seed());
        assert!(two.is_mac(b"x", &one.mac(b"x")) && !two.is_mac(b"y", &one.mac(b"x")));
        assert_eq!(two.decrypt(&one.encrypt(b"secret").unwrap(), 99).unwrap(), b"secret");
        let other = Identity::generate().unwrap();
        assert!(other.decrypt(&one.encrypt(b"secret").unwrap(), 99).is_err());
        assert_ne!(one.content_id(b"x"), other.content_id(b"x"));
        for broken in ["", "AGE-SECRET-KEY-1", &one.to_text()[1..], &one.to_text()[..150]] {
            assert!(Identity::from_text(broken).is_none());
        }
        assert!(!format!("{one:?}").contains("SECRET"));
    }
}
