//! `format.json`: what kind of repository this is, and which programs can read it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::key::{KeyName, Recipient, Unlock};

pub(crate) const KEY: &str = "format.json";
/// 2 added encryption, and chunks that several backups share, which a prune of format 1 does not
/// know. A repository of format 1 is read as it is, and the first backup into it makes it one of 2.
const FORMAT: u64 = 2;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    repository: String,
    #[serde(rename = "format")]
    version: u64,
    /// The public key of the repository's identity, where it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
}

/// With what a vault is opened.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// For whom a new repository is encrypted.
    pub recipients: Vec<(KeyName, Recipient)>,
    pub unlock: Vec<Unlock>,
    /// The public key that the repository must have.
    pub expected: Option<String>,
}

impl Keys {
    /// Who has a key expects encryption: a `format.json` that somebody exchanged must not have the
    /// next backup written for everybody to read.
    pub fn fit(&self, format: &Format) -> Result<(), Error> {
        let wrong = |message: &str, remedy: &str| {
            Err(Error::new(ErrorKind::WrongKey, message).remedy(remedy))
        };
        let encrypts = !self.recipients.is_empty() || self.expected.is_some();
        if format.recipient.is_none() && (encrypts || !self.unlock.is_empty()) {
            return wrong(
                "a key was given, and the repository is not encrypted",
                "a new repository is encrypted if it is begun with a recipient or a passphrase; \
                 one that should be encrypted already was exchanged by somebody",
            );
        }
        if self.expected.is_some() && self.expected != format.recipient {
            return wrong(
                "the repository has another key than is expected",
                "find out who exchanged it; nothing was read or written",
            );
        }
        Ok(())
    }
}

impl Format {
    pub fn plain() -> Self {
        Self { repository: "ops-backup".into(), version: FORMAT, recipient: None }
    }

    pub fn encrypted(recipient: String) -> Self {
        Self { recipient: Some(recipient), ..Self::plain() }
    }

    pub fn is_current(&self) -> bool {
        self.version == FORMAT
    }

    /// One line of JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "no format").caused_by(e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        if let Some(format) = value["format"].as_u64().filter(|format| *format > FORMAT) {
            return Err(Error::new(
                ErrorKind::Foreign,
                format!("the repository has format {format}, this program reads up to {FORMAT}"),
            )
            .remedy("use the version of the program that wrote it, or a newer one"));
        }
        let parsed = serde_json::from_value::<Self>(value).ok().filter(|format| {
            let known = format.repository == "ops-backup" && format.version > 0;
            known && format.to_bytes().is_ok_and(|again| again == bytes)
        });
        parsed.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "`format.json` is damaged, or of another program")
                .remedy("use an empty store, or put the file's one line back")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_are_what_they_were() {
        for (golden, current, recipient) in [
            (&include_bytes!("../tests/format-1.json")[..], false, None),
            (include_bytes!("../tests/format-2.json"), true, None),
            (
                include_bytes!("../tests/format-2-encrypted.json"),
                true,
                Some("age1yt3tfqlfrwdwx0z0ynwplcr6qxcxfaqycuprpmy89nr83ltx74tqdpszlw"),
            ),
        ] {
            let format = Format::from_bytes(golden).unwrap();
            assert_eq!(format.to_bytes().unwrap(), golden);
            assert_eq!((format.is_current(), format.recipient.as_deref()), (current, recipient));
        }
        assert_eq!(Format::plain().to_bytes().unwrap(), include_bytes!("../tests/format-2.json"));
    }
}
