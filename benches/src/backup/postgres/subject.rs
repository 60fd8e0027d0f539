//! A database that is backed up, and what there is to know of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::data::{ALL, generate};
use super::program::PROGRAM;
use super::server::Server;
use crate::child::output;
use crate::rounds::Cost;
use crate::{Failure, own_program};

/// Of a dump's text, what is the same in every dump.
const DIGEST: &str = "grep -av -e '^[\\]restrict' -e '^[\\]unrestrict' | sha256sum";

/// A database, on a server that all benchmarks share.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub server: Rc<Server>,
    pub database: String,
    /// How much, in MB.
    pub size: u32,
    /// Where everything of it goes.
    pub folder: PathBuf,
}

/// What our program said, and cost.
pub(super) struct Ours {
    pub said: serde_json::Value,
    pub cost: Cost,
}

impl Subject {
    pub fn generate(server: &Rc<Server>, folder: &Path, size: u32) -> Result<Self, Failure> {
        let database = format!("bench_{size}");
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(generate(server, &database, size))?;
        let folder = folder.join(&database);
        std::fs::create_dir(&folder)?;
        Ok(Self { server: Rc::clone(server), database, size, folder })
    }

    pub fn group(&self, what: &str) -> String {
        format!("PostgreSQL, {} MB: {what}", self.size)
    }

    /// A script in a folder, with the server in its environment. It fails with any part of a
    /// pipeline.
    pub fn script(&self, folder: &Path, script: &str) -> Command {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script]).current_dir(folder).env("LC_ALL", "C");
        self.server.reach(&mut bash, &self.database);
        bash
    }

    /// Runs our program, on a store of this name.
    pub fn ours(&self, verb: &str, store: &Path, more: &[&str]) -> Result<Ours, Failure> {
        let mut command = own_program::ours(PROGRAM, [verb, &self.server.url(&self.database)])?;
        command.arg(store).arg(self.folder.join("state")).args(more);
        let (said, cost) = self.server.measured(&mut command)?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let peak = said["peak"].as_u64().ok_or("it does not say how much memory it had")?;
        Ok(Ours { said, cost: cost.with("peak memory", peak) })
    }

    /// The rows of all tables of a database.
    pub fn rows(&self, database: &str) -> Result<u64, Failure> {
        let counts = ALL.map(|table| format!("(SELECT count(*) FROM {table})"));
        let rows = self.server.ask(database, &format!("SELECT {}", counts.join(" + ")))?;
        Ok(rows.parse()?)
    }

    /// The digest of what this script prints, which has to be a dump of the database.
    pub fn digest(&self, folder: &Path, prints: &str) -> Result<String, Failure> {
        output(&mut self.script(folder, &format!("{prints} | {DIGEST}")))
    }
}

/// The bytes of all files in a folder.
pub(super) fn size(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { size(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
