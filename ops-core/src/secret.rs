//! Secrets, and the redactor that every output passes.
//!
//! ```
//! use ops_core::{Redactor, Secret};
//!
//! let token = Secret::new("hunter2-and-more");
//! let redactor = Redactor::default();
//! redactor.add(&token);
//!
//! assert_eq!(format!("{token:?}"), "[redacted]");
//! assert_eq!(redactor.redact("Bearer hunter2-and-more"), "Bearer [redacted]");
//! assert_eq!(redactor.redact("psql postgres://ops:unknown@db/x"), "psql postgres://ops:[redacted]@db/x");
//! ```
//!
//! Found are the secret itself and the forms in which programs print it: escaped as JSON (also as
//! JSON in JSON) or by `{:?}`, percent-encoded in any mixture, and in base64, alone or within more
//! text. Limits: base64 that is broken over lines, encodings on top of encodings, hexadecimal and
//! compressed forms are not found. Secrets under four characters are found only between characters
//! that are neither letters nor digits, for they stand in too many words.

mod forms;
mod redactor;
mod search;
mod stream;

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

pub use redactor::Redactor;
pub use stream::RedactingStream;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A file that is larger than this is no secret.
const FILE_CAP: u64 = 1024 * 1024;

/// A secret: printed as `[redacted]`, never serialised, wiped from memory with its last clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// Reads a variable of this process' environment.
    ///
    /// # Errors
    /// `InvalidInput`, with the variable's name, if it is not set, empty, or no UTF-8.
    pub fn from_env(name: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::InvalidInput, format!("the variable `{name}` {what}"))
                .remedy(format!("set `{name}` to the secret"))
        };
        match std::env::var(name) {
            Ok(text) if text.is_empty() => Err(wrong("is empty")),
            Ok(text) => Ok(Self::new(text)),
            Err(std::env::VarError::NotPresent) => Err(wrong("is not set")),
            Err(std::env::VarError::NotUnicode(_)) => Err(wrong("is not UTF-8")),
        }
    }

    /// Reads a file of at most 1 MiB; the line break at its end is not part of the secret. Blocks.
    ///
    /// # Errors
    /// `Io` if the file cannot be read, `InvalidInput` if it is empty, too large, or no UTF-8; with
    /// its path, and never with what stands in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let wrong = |what: &str| {
            let message = format!("the secret's file `{}` {what}", path.display());
            Error::new(ErrorKind::InvalidInput, message)
        };
        let io = |source| Error::io("read the secret's file", path, source);
        let file = std::fs::File::open(path).map_err(io)?;
        // Room for all of it: a buffer that grows leaves copies behind.
        let room = file.metadata().map_err(io)?.len().min(FILE_CAP) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
        file.take(FILE_CAP + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > FILE_CAP {
            return Err(wrong("is larger than 1 MiB"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(wrong("is empty"));
        }
        Ok(Self::new(text))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_redacted() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "[redacted] [redacted] Some([redacted])"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn errors_name_the_variable_or_the_file_only() {
        let error = Secret::from_env("OPS_CORE_NO_SUCH_SECRET").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the variable `OPS_CORE_NO_SUCH_SECRET` is not set; set `OPS_CORE_NO_SUCH_SECRET` to the secret"
        );
        assert_eq!(Secret::from_env("PATH").unwrap().expose(), std::env::var("PATH").unwrap());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let check = |content: &[u8], expected: &str| {
            std::fs::write(&path, content).unwrap();
            match Secret::from_file(&path) {
                Ok(secret) => assert_eq!(secret.expose(), expected),
                Err(error) => {
                    let what = error.to_string();
                    assert_eq!(what, format!("the secret's file `{}` {expected}", path.display()));
                }
            }
        };
        check(b"hunter2", "hunter2");
        check(b"hunter2\n", "hunter2");
        check(b"two\nlines\r\n", "two\nlines");
        check(b"\n", "is empty");
        check(b"hunter\xff", "is not UTF-8");
        check(&vec![b'x'; 1024 * 1024 + 1], "is larger than 1 MiB");
        let error = Secret::from_file(folder.path().join("none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the secret's file `"), "{error}");
    }
}
