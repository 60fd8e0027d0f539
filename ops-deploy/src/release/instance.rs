//! The running (or stopped) instances of releases, as their folders tell.

use std::net::SocketAddr;
use std::path::Path;

use ops_core::Version;
use serde::{Deserialize, Serialize};

use super::directory::ReleaseDirectory;
use crate::error::{Error, ErrorKind};
use crate::service::Liveness;
use crate::traffic::Upstream;

const SCHEMA: u32 = 1;
pub(super) const RECORD: &str = "instance.json";

/// One instance of a release's service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Its name: version and operation that started it.
    pub name: String,
    /// Which version it runs.
    pub version: Version,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it runs.
    pub liveness: Liveness,
}

impl Instance {
    /// Whether anything of it runs.
    pub fn runs(&self) -> bool {
        self.liveness != Liveness::Stopped
    }

    /// What takes its traffic.
    pub fn upstream(&self) -> Upstream {
        Upstream { address: self.address, instance: self.name.clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    version: Version,
    address: SocketAddr,
}

/// Written before the instance starts, so that whatever runs can be named.
pub(super) fn record(folder: &Path, version: &Version, address: SocketAddr) -> Result<(), Error> {
    let record = Record { schema: SCHEMA, version: version.clone(), address };
    let bytes = serde_json::to_vec(&record).expect("a record is made of JSON values");
    Ok(ops_core::fs::atomic_write(&folder.join(RECORD), &bytes)?)
}

fn read(bytes: &[u8]) -> Result<Record, Error> {
    #[derive(Deserialize)]
    struct Header {
        schema: u32,
    }
    let unreadable = |error| {
        Error::new(ErrorKind::Corrupt, "the record of an instance cannot be read").caused_by(error)
    };
    let Header { schema } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if schema != SCHEMA {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("the record of an instance has schema {schema}; this program knows {SCHEMA}"),
        ));
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

impl ReleaseDirectory {
    /// The instance of this name; `None` if it was never started or is forgotten.
    pub(super) fn instance(&self, name: &str) -> Result<Option<Instance>, Error> {
        let folder = self.instance_path(name);
        let path = folder.join(RECORD);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let liveness = self.0.manager.liveness(&folder)?;
        let record = match read(&bytes) {
            Ok(record) => record,
            // What does not run is of no use any more, and must not block the site: a clean-up
            // takes its folder.
            Err(error) if liveness == Liveness::Stopped => {
                let error = ops_core::error::chain(&error).join(": ");
                tracing::warn!(record = %path.display(), error, "a stopped instance is left out");
                return Ok(None);
            }
            Err(error) => {
                return Err(error
                    .with("record", path.display())
                    .remedy("its process runs: end it, or run the program that wrote the record"));
            }
        };
        Ok(Some(Instance {
            name: name.to_owned(),
            version: record.version,
            address: record.address,
            liveness,
        }))
    }

    /// The stopped instances whose records cannot be read. Blocks.
    pub(super) fn unreadable_instances(&self) -> Result<Vec<String>, Error> {
        let mut unreadable = Vec::new();
        for name in self.instance_names()? {
            // What has no record yet is about to start.
            if self.instance_path(&name).join(RECORD).exists() && self.instance(&name)?.is_none() {
                unreadable.push(name);
            }
        }
        Ok(unreadable)
    }

    fn instance_names(&self) -> Result<Vec<String>, Error> {
        let folder = self.run_path();
        let failed = |error| Error::io("list", &folder, error);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().into_string();
            names.extend(name.ok().filter(|name| !name.starts_with('.')));
        }
        Ok(names)
    }

    /// All instances that are known, newest last. Blocks.
    pub(super) fn instances(&self) -> Result<Vec<Instance>, Error> {
        let mut instances = Vec::new();
        for name in self.instance_names()? {
            instances.extend(self.instance(&name)?);
        }
        // The operation at the name's end is a ULID, which sorts by time.
        instances.sort_by(|a, b| {
            let age =
                |instance: &Instance| instance.name.rsplit_once('-').map(|(_, id)| id.to_owned());
            age(a).cmp(&age(b))
        });
        Ok(instances)
    }
}
