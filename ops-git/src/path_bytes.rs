//! Paths as bytes that survive JSON, since paths need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The path that these bytes are on Unix.
pub(crate) fn on_disk(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A path whose bytes survive JSON: as text where it is UTF-8, else as `hex:` and its digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathBytes(Vec<u8>);

impl PathBytes {
    /// The bytes of a path.
    pub fn new(path: impl AsRef<[u8]>) -> Self {
        Self(path.as_ref().to_vec())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path.
    pub fn to_path(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.0.clone()))
    }
}

impl From<&Path> for PathBytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBytes> for String {
    fn from(path: PathBytes) -> Self {
        match String::from_utf8(path.0) {
            Ok(text) if !text.starts_with("hex:") => text,
            Ok(text) => hex(text.as_bytes()),
            Err(error) => hex(error.as_bytes()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::from("hex:");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

impl TryFrom<String> for PathBytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(digits) = text.strip_prefix("hex:") else { return Ok(Self(text.into_bytes())) };
        let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
        let bytes: Option<Vec<u8>> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect();
        bytes.map(Self).ok_or_else(|| format!("`{text}` is no path in hexadecimal digits"))
    }
}

impl fmt::Display for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_survives_json(bytes: Vec<u8>) {
            let path = PathBytes::new(&bytes);
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<PathBytes>(&json).unwrap(), path);
        }
    }

    #[test]
    fn text_stays_text_and_rubbish_is_refused() {
        assert_eq!(String::from(PathBytes::new("src/a b.rs")), "src/a b.rs");
        assert_eq!(String::from(PathBytes::new("hex:00")), "hex:6865783a3030");
        assert!(PathBytes::try_from("hex:0".to_owned()).is_err());
        assert!(PathBytes::try_from("hex:zz".to_owned()).is_err());
    }
}
