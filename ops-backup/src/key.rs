//! Who can open an encrypted repository: recipients and passphrases, each with the repository's
//! identity wrapped for it in `keys/<name>.<ulid>.age`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use age::secrecy::SecretString;
use object_store::ObjectMeta;
use ops_core::{Class, Secret};
use ulid::Ulid;

use crate::error::{Error, ErrorKind};
use crate::identity::{Identity, decrypt_with, encrypt_to};
use crate::manifest::SetName;
use crate::repository::Repository;

/// What one wrapped identity takes at most.
pub(crate) const MAX: u64 = 64 << 10;
/// As scrypt's work doubles with each step, a hostile file could ask for hours: about 16 s.
const MAX_WORK: u8 = 22;
/// More wrapped identities than these nobody has made: each costs a passphrase its work, before
/// anything tells who wrote it.
const MAX_KEYS: usize = 256;
/// How long all of them may be tried.
const PATIENCE: Duration = Duration::from_mins(2);
/// The work of a new passphrase: about a second.
const WORK: u8 = 18;

/// The name of a key of a repository: lower-case letters, digits, `-`, `_`, at most 64.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct KeyName(SetName);

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, format!("`{text}` is no name of a key"))
                .remedy("use 1 to 64 of a-z, 0-9, `-` and `_`")
        })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For whom the identity of a repository is wrapped.
#[derive(Debug, Clone)]
pub struct Recipient(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Public(String),
    Passphrase { passphrase: Secret, work: u8 },
}

impl Recipient {
    /// An age recipient: `age1...`, as `age-keygen` prints it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is none.
    pub fn public(key: &str) -> Result<Self, Error> {
        parse_public(key)?;
        Ok(Self(Kind::Public(key.to_owned())))
    }

    /// A passphrase. Opening the repository with it takes about a second, and 256 MiB for that long.
    pub fn passphrase(passphrase: Secret) -> Self {
        Self(Kind::Passphrase { passphrase, work: WORK })
    }

    /// How hard a passphrase is to try, as a power of two, 1 to 22. Default: 18. Less is only right
    /// for a passphrase that a machine made. Recipients are as they are.
    pub fn work_factor(mut self, factor: u8) -> Self {
        if let Kind::Passphrase { work, .. } = &mut self.0 {
            *work = factor.clamp(1, MAX_WORK);
        }
        self
    }
}

/// An identity, wrapped. A passphrase costs a second of work.
pub(crate) async fn wrap(recipient: Recipient, identity: &str) -> Result<Vec<u8>, Error> {
    let text = zeroize::Zeroizing::new(identity.to_owned());
    let wrapped = move || match recipient.0 {
        Kind::Public(key) => encrypt_to(&parse_public(&key)?, text.as_bytes()),
        Kind::Passphrase { passphrase, work } => {
            let phrase = SecretString::from(passphrase.expose().to_owned());
            let mut recipient = age::scrypt::Recipient::new(phrase);
            recipient.set_work_factor(work);
            encrypt_to(&recipient, text.as_bytes())
        }
    };
    tokio::task::spawn_blocking(wrapped).await.map_err(Error::panicked)?
}

fn parse_public(key: &str) -> Result<age::x25519::Recipient, Error> {
    key.parse().map_err(|why| {
        Error::new(ErrorKind::InvalidInput, format!("`{key}` is no age recipient: {why}"))
            .remedy("give the line that begins with `age1`, as `age-keygen -y` prints it")
    })
}

/// What opens an encrypted repository.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// An age identity: `AGE-SECRET-KEY-1...`, or a whole file of `age-keygen`.
    Identity(Secret),
    /// A passphrase.
    Passphrase(Secret),
}

impl Unlock {
    fn identities(&self) -> Result<Vec<Box<dyn age::Identity + Send>>, Error> {
        match self {
            Self::Passphrase(phrase) => {
                let phrase = SecretString::from(phrase.expose().to_owned());
                let mut identity = age::scrypt::Identity::new(phrase);
                identity.set_max_work_factor(MAX_WORK);
                Ok(vec![Box::new(identity)])
            }
            Self::Identity(text) => {
                let lines = text.expose().lines().map(str::trim);
                let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
                let parse = |line: &str| {
                    let identity: age::x25519::Identity = line.parse().map_err(|why| {
                        Error::new(ErrorKind::InvalidInput, format!("no age identity: {why}"))
                            .remedy("give a line that begins with `AGE-SECRET-KEY-1`")
                    })?;
                    Ok(Box::new(identity) as Box<dyn age::Identity + Send>)
                };
                keys.map(parse).collect()
            }
        }
    }
}

/// `keys/<name>.<ulid>.age`. Each wrapping has a place of its own, so none is ever overwritten.
pub(crate) fn object(name: &KeyName, id: Ulid) -> String {
    format!("keys/{name}.{id}.age")
}

fn name_of(key: &str) -> Option<KeyName> {
    let (name, id) = key.strip_prefix("keys/")?.strip_suffix(".age")?.rsplit_once('.')?;
    Ulid::from_string(id).ok()?;
    name.parse().ok()
}

impl Repository {
    /// The wrapped identities: where each lies, and its name.
    pub async fn wrapped(&self) -> Result<BTreeMap<String, KeyName>, Error> {
        let add = |found: &mut BTreeMap<_, _>, object: &ObjectMeta| {
            let key = object.location.to_string();
            if let Some(name) = name_of(&key) {
                found.insert(key, name);
            }
        };
        self.fold("keys", BTreeMap::new, add).await
    }

    /// The identity that `recipient` belongs to, if one of these opens it.
    pub async fn unlock(&self, recipient: &str, with: &[Unlock]) -> Result<Identity, Error> {
        let mut candidates = Vec::new();
        for unlock in with {
            candidates.extend(unlock.identities()?);
        }
        let wrapped = self.wrapped().await?;
        if wrapped.len() > MAX_KEYS {
            let message =
                format!("the repository has {} keys, {MAX_KEYS} is the most", wrapped.len());
            return Err(Error::new(ErrorKind::WrongKey, message)
                .remedy("look who writes to `keys/` of the store, and remove what is strange"));
        }
        let mut files = Vec::new();
        for key in wrapped.keys() {
            match self.get(key, MAX).await {
                Ok(bytes) => files.push(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let wanted = recipient.to_owned();
        // A passphrase costs a second of work.
        let opened =
            tokio::task::spawn_blocking(move || open(&files, &candidates, &wanted, PATIENCE));
        opened.await.map_err(Error::panicked)??.ok_or_else(|| {
            let names: Vec<_> = wrapped.values().map(ToString::to_string).collect();
            let message = match with.len() {
                0 => "the repository is encrypted, and no key was given".to_owned(),
                1 => "the repository is encrypted, and the key does not open it".to_owned(),
                n => format!("the repository is encrypted, and none of {n} keys opens it"),
            };
            Error::new(ErrorKind::WrongKey, message).remedy(format!(
                "give the identity or the passphrase of one of: {}",
                names.join(", ")
            ))
        })
    }
}

/// Tries each key on each file. That may take long: the first pair is tried, however slow the machine
/// is, and none that would begin too late.
fn open(
    files: &[bytes::Bytes],
    keys: &[Box<dyn age::Identity + Send>],
    wanted: &str,
    patience: Duration,
) -> Result<Option<Identity>, Error> {
    let begun = Instant::now();
    let pairs = files.iter().flat_map(|file| keys.iter().map(move |key| (file, &**key)));
    for (tried, (file, key)) in pairs.enumerate() {
        if tried > 0 && begun.elapsed() > patience {
            let all = files.len() * keys.len();
            let message =
                format!("only {tried} of {all} attempts to open the repository were made");
            return Err(Error::new(ErrorKind::WrongKey, message)
                .with("patience", format!("{patience:?}"))
                .class_of(Class::Temporary)
                .remedy("give only the key that opens it, or try again when the machine is idle"));
        }
        let opened = || {
            let text = zeroize::Zeroizing::new(decrypt_with(key, file, MAX).ok()?);
            Identity::from_text(std::str::from_utf8(&text).ok()?)
        };
        if let Some(identity) = opened().filter(|identity| identity.recipient() == wanted) {
            return Ok(Some(identity));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_wrapped_identities() {
        let name = |key: &str| name_of(key).map(|name| name.to_string());
        let id = Ulid::from_parts(1, 2);
        assert_eq!(name(&object(&"alice".parse().unwrap(), id)).as_deref(), Some("alice"));
        for key in ["keys/alice.age", "keys/Alice.01JD2Q5W3V8Y7K6M4N9P0R1S2T.age", "keys/a"] {
            assert_eq!(name(key), None, "{key}");
        }
        assert!("../x".parse::<KeyName>().is_err() && "".parse::<KeyName>().is_err());
    }

    #[tokio::test]
    async fn a_key_that_was_not_tried_in_time_is_no_wrong_one() {
        let [right, wrong] = [(); 2].map(|()| age::x25519::Identity::generate());
        let repository = Identity::generate().unwrap();
        let mut files = Vec::new();
        for key in [&wrong, &right] {
            let recipient = Recipient::public(&key.to_public().to_string()).unwrap();
            files.push(wrap(recipient, &repository.to_text()).await.unwrap().into());
        }
        let keys: Vec<Box<dyn age::Identity + Send>> = vec![Box::new(right)];
        let wanted = repository.recipient();
        let opened = open(&files, &keys, &wanted, PATIENCE).unwrap();
        assert_eq!(opened.unwrap().recipient(), wanted);
        let error = open(&files, &keys, &wanted, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("only 1 of 2 attempts"), "{error}");
        assert_eq!(ops_core::Classify::class(&error), Class::Temporary);
        files.reverse();
        assert!(
            open(&files, &keys, &wanted, Duration::ZERO).unwrap().is_some(),
            "the first is tried"
        );
        assert!(open(&files[1..], &keys, &wanted, PATIENCE).unwrap().is_none());
    }

    #[test]
    fn what_is_no_recipient_or_identity_is_refused() {
        let error = Recipient::public("age1nonsense").unwrap_err();
        assert!(error.to_string().contains("is no age recipient"), "{error}");
        let error = Unlock::Identity(Secret::new("nonsense")).identities().map(|_| ()).unwrap_err();
        assert!(!error.to_string().contains("nonsense"), "a secret is not printed: {error}");
    }
}
