//! The filters that a repository configures: one program for each file, or one for many that speaks
//! git's long-running process protocol.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind as Io, Read as _, Write as _};

use gix::bstr::{BStr, BString};
use gix::filter::plumbing::Driver;
use gix::filter::plumbing::driver::Operation;
use gix::filter::plumbing::driver::process::Client;

use super::child::{Child, Group};
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::shell::{filled_in, quoted};

/// The configured filters, and those of them that are running.
pub(super) struct Programs {
    context: gix::command::Context,
    drivers: Vec<Driver>,
    running: HashMap<BString, Running>,
}

/// One that answers for many files. First its pipes are closed, which tells it to end.
struct Running {
    client: Client,
    group: Group,
}

impl Programs {
    pub(super) fn new(context: gix::command::Context, drivers: Vec<Driver>) -> Self {
        Self { context, drivers, running: HashMap::new() }
    }

    /// What a filter makes of a file; `None` if there is no such filter, or it has nothing to do on
    /// this way.
    pub(super) fn apply(
        &mut self,
        filter: Option<&str>,
        operation: Operation,
        path: &BStr,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let named = |driver: &&Driver| filter.is_some_and(|name| driver.name == name);
        let Some(driver) = self.drivers.iter().find(named).cloned() else { return Ok(None) };
        let set = |line: Option<BString>| line.filter(|line| !line.is_empty());
        if let Some(process) = set(driver.process.clone()) {
            return self.ask(&driver, &process, operation, path, content);
        }
        let line = set(match operation {
            Operation::Clean => driver.clean.clone(),
            Operation::Smudge => driver.smudge.clone(),
        });
        let Some(line) = line else { return Ok(None) };
        self.once(&driver, &line, path, content)
    }

    /// Runs a program for this file alone.
    fn once(
        &self,
        driver: &Driver,
        line: &BString,
        path: &BStr,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let names = BTreeMap::from([(b'f', quoted(path))]);
        let line = filled_in(line.as_ref(), &names);
        let about = |error: Error| error.with("filter", &driver.name).with("path", path);
        let mut child = Child::start(&line, &self.context).map_err(about)?;
        let (mut stdin, mut stdout) = child.pipes().map_err(about)?;
        let mut filtered = Vec::new();
        // It may write before it has read all.
        let (written, read) = std::thread::scope(|scope| {
            let writing = std::thread::Builder::new().spawn_scoped(scope, move || {
                let written = stdin.write_all(content);
                drop(stdin);
                written
            });
            let read = stdout.read_to_end(&mut filtered);
            drop(stdout);
            let written = writing.and_then(|writing| {
                writing.join().unwrap_or_else(|_| Err(std::io::Error::other("writing panicked")))
            });
            (written, read)
        });
        let ended_well = child.group().ended().map_err(about)?;
        // One that needs not all of it may close its input.
        let whole = read.is_ok()
            && written.as_ref().err().is_none_or(|error| error.kind() == Io::BrokenPipe);
        if ended_well && whole {
            return Ok(Some(filtered));
        }
        if driver.required {
            let error = Error::new(ErrorKind::Git, format!("filter `{}` failed", driver.name))
                .with("path", path)
                .remedy("see what it says on its standard error, and repair it");
            return Err(match read.err().or(written.err()) {
                Some(source) => error.caused_by(source),
                None => error,
            });
        }
        tracing::warn!(filter = %driver.name, %path, "a filter failed, and is left out");
        Ok(None)
    }

    /// Asks the program that answers for many files.
    fn ask(
        &mut self,
        driver: &Driver,
        process: &BString,
        operation: Operation,
        path: &BStr,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let about = |error: Error| error.with("filter", &driver.name).with("path", path);
        let mut running = match self.running.remove(process) {
            Some(running) => running,
            None => Running::start(process, &self.context).map_err(about)?,
        };
        // After an error nobody knows what it would say next: it is not asked again.
        let filtered = running.filter(operation, path, content).map_err(about)?;
        self.running.insert(process.clone(), running);
        if filtered.is_none() && driver.required {
            let what = format!("filter `{}` cannot {}", driver.name, operation.as_str());
            return Err(Error::new(ErrorKind::Git, what).with("path", path));
        }
        Ok(filtered)
    }
}

impl Running {
    fn start(process: &BString, context: &gix::command::Context) -> Result<Self, Error> {
        let (child, group) = Child::start(process, context)?.into_parts();
        let client = Client::handshake(child, "git-filter", &[2], &["clean", "smudge"])
            .doing(|| "the filter does not speak git's filter protocol".into())
            .map_err(|error| group.blame(error))?;
        Ok(Self { client, group })
    }

    fn filter(
        &mut self,
        operation: Operation,
        path: &BStr,
        mut content: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let command = operation.as_str();
        if !self.client.capabilities().contains(command) {
            return Ok(None);
        }
        let failed = || "the filter failed".to_owned();
        let mut meta = std::iter::once(("pathname", path.to_owned()));
        let status = self
            .client
            .invoke(command, &mut meta, &mut content)
            .doing(failed)
            .map_err(|error| self.group.blame(error))?;
        if !status.is_success() {
            let said = status.message().unwrap_or("nothing").to_owned();
            return Err(Error::new(ErrorKind::Git, failed()).with("status", said));
        }
        let mut filtered = Vec::new();
        let read = self.client.as_read().read_to_end(&mut filtered);
        match read {
            Ok(_) => Ok(Some(filtered)),
            Err(source) => {
                let error = Error::new(ErrorKind::Git, failed()).caused_by(source);
                Err(self.group.blame(error))
            }
        }
    }
}
