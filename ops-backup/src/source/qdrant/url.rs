//! The address of a collection, without its API key.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Error, ErrorKind};
use crate::source::percent;

/// What may stand behind the `?`.
const PARAMETERS: [&str; 2] = ["cacert", "keyfile"];

/// The address of a Qdrant collection, or of an alias: `qdrant+http://host:6333/collection`, or
/// `qdrant+https://`. What stands before the last `/` is the server's address, also behind a prefix.
///
/// It goes into plans, journals and manifests, so it holds no API key. That comes from the file that
/// the address names with `?keyfile=/run/secrets/qdrant`, from the variable `QDRANT_API_KEY`, or from
/// the file that `QDRANT_API_KEY_FILE` names. `?cacert=` names a PEM file with further certificates to
/// trust.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QdrantUrl {
    /// `http://host:6333`, and the prefix where there is one.
    server: String,
    collection: String,
    parameters: BTreeMap<String, String>,
}

impl QdrantUrl {
    /// The server's address: `http://host:6333`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The collection, or the alias.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Another collection of the same server.
    pub fn with_collection(&self, collection: impl Into<String>) -> Self {
        Self { collection: collection.into(), ..self.clone() }
    }

    #[cfg(feature = "qdrant")]
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// What tells the collection from others: the address without parameters. Of Qdrant nothing is
    /// known that stays the same whatever its address is.
    pub fn fingerprint(&self) -> String {
        format!("{}/{}", self.server, percent::encoded(&self.collection))
    }
}

impl FromStr for QdrantUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Never the text itself: it may hold a key.
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidInput, format!("the address of the collection {why}"))
                .remedy("write it as qdrant+http://host:6333/collection")
        };
        let with_key = || {
            wrong("holds an API key, which would go into journals").remedy(
                "take it out, and set QDRANT_API_KEY or QDRANT_API_KEY_FILE, or name a file with ?keyfile=",
            )
        };
        let scheme = text
            .strip_prefix("qdrant+")
            .ok_or_else(|| wrong("does not begin with `qdrant+http://` or `qdrant+https://`"))?;
        let url = Url::parse(scheme).map_err(|_| wrong("is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("does not begin with `qdrant+http://` or `qdrant+https://`"));
        }
        if url.password().is_some() || !url.username().is_empty() {
            return Err(with_key());
        }
        let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
        let mut parameters = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            if matches!(&*name, "api-key" | "api_key" | "apikey" | "key") {
                return Err(with_key());
            }
            let known = PARAMETERS.contains(&&*name);
            if !known || parameters.insert(name.to_string(), value.to_string()).is_some() {
                return Err(wrong("has an unknown or repeated parameter")
                    .remedy(format!("use each of these once: {}", PARAMETERS.join(", "))));
            }
        }
        let (prefix, collection) = url.path().rsplit_once('/').unwrap_or(("", ""));
        let collection = percent::decoded(collection).ok_or_else(|| wrong("is not UTF-8"))?;
        if collection.is_empty() {
            return Err(wrong("names no collection"));
        }
        if collection.chars().any(|c| c.is_control() || c == '/') {
            return Err(wrong("names a collection that cannot be one"));
        }
        let port = url.port_or_known_default().unwrap_or(6333);
        let server = format!("{}://{host}:{port}{prefix}", url.scheme());
        Ok(Self { server, collection, parameters })
    }
}

impl fmt::Display for QdrantUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "qdrant+{}", self.fingerprint())?;
        for (at, (name, value)) in self.parameters.iter().enumerate() {
            let mark = if at == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", percent::encoded(value).replace("%2F", "/"))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for QdrantUrl {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<QdrantUrl> for String {
    fn from(url: QdrantUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_it_is() {
        for (text, server, collection) in [
            ("qdrant+http://db:6333/docs", "http://db:6333", "docs"),
            ("qdrant+https://[::1]:6334/a%20b", "https://[::1]:6334", "a b"),
            (
                "qdrant+https://db:443/behind/it/docs?keyfile=/run/key",
                "https://db:443/behind/it",
                "docs",
            ),
        ] {
            let url: QdrantUrl = text.parse().unwrap();
            assert_eq!((url.server(), url.collection()), (server, collection), "{text}");
            assert_eq!(url.to_string(), text);
            let json = serde_json::to_string(&url).unwrap();
            assert_eq!(serde_json::from_str::<QdrantUrl>(&json).unwrap(), url);
        }
        let url: QdrantUrl = "qdrant+https://db/docs".parse().unwrap();
        assert_eq!(url.with_collection("é").to_string(), "qdrant+https://db:443/%C3%A9");
    }

    #[test]
    fn a_key_never_gets_in_and_is_never_told() {
        for (text, why) in [
            ("qdrant+http://hunter2@db/docs", "holds an API key"),
            ("qdrant+http://:hunter2@db/docs", "holds an API key"),
            ("qdrant+http://db/docs?api-key=hunter2", "holds an API key"),
            ("qdrant+http://db/docs?hunter2=1", "unknown"),
            ("qdrant+http://db/", "no collection"),
            ("qdrant+http://db/a%2Fhunter2", "cannot be one"),
            ("qdrant+ftp://db/hunter2", "does not begin"),
            ("http://db/hunter2", "does not begin"),
            ("qdrant+http://", "no URL"),
        ] {
            let error = text.parse::<QdrantUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let told = format!("{error} {error:?}");
            assert!(told.contains(why) && !told.contains("hunter2"), "{told}");
        }
    }
}
