//! The programs of PostgreSQL: `pg_dump`, `pg_dumpall`, `psql`, `pg_restore`.
//!
//! What they write comes through a named pipe and not through the runner's output: that one is
//! capped and redacted, and a schema in which a word was redacted is no schema.

use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _};
use ops_core::process::{Command, RunContext, Runner as _, SystemRunner};
use rustix::fs::Mode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::url::PostgresUrl;
use crate::error::{Error, ErrorKind};
use crate::source::{ByteStream, marked};

const PIECE: usize = 128 << 10;
const PIECES: usize = 4;

/// A whole dump may take as long as it takes; the operation around it has a deadline of its own.
const LONG: Duration = Duration::from_hours(7 * 24);

/// Where the programs are. Default: in the `PATH`.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs(pub Option<PathBuf>);

impl Programs {
    /// A command with the address in its environment, where a name that looks like a connection
    /// string is a name.
    pub fn command(&self, program: &str, url: &PostgresUrl) -> Command {
        let path = match &self.0 {
            Some(folder) => folder.join(program).into_os_string(),
            None => program.into(),
        };
        let mut command = Command::new(path)
            .deadline(LONG)
            .env("PGHOST", url.host())
            .env("PGPORT", url.port().to_string())
            .env("PGUSER", url.user())
            .env("PGDATABASE", url.database())
            .env("PGAPPNAME", "ops-backup")
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGCONNECT_TIMEOUT", "30");
        for (parameter, name) in [
            ("sslmode", "PGSSLMODE"),
            ("sslrootcert", "PGSSLROOTCERT"),
            ("sslcert", "PGSSLCERT"),
            ("sslkey", "PGSSLKEY"),
        ] {
            if let Some(value) = url.parameter(parameter) {
                command = command.env(name, value);
            }
        }
        match url.parameter("passfile") {
            Some(path) => command.env("PGPASSFILE", path),
            None => command.inherit_env(["PGPASSWORD", "PGPASSFILE"]),
        }
    }

    /// The version of one of the programs: major and minor.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn version(&self, program: &str, url: &PostgresUrl) -> Result<(u32, u32), Error> {
        let command = self.command(program, url).arg("--version").deadline(Duration::from_secs(30));
        let output = SystemRunner.run(&command, &RunContext::default()).await?.success(&command)?;
        let text = output.stdout_text();
        parse_version(&text).ok_or_else(|| {
            Error::new(ErrorKind::Source, format!("`{program} --version` says `{}`", text.trim()))
        })
    }

    /// Runs a script in a database, statement by statement, up to the first error.
    pub async fn psql(
        &self,
        url: &PostgresUrl,
        script: Bytes,
        cx: &RunContext,
    ) -> Result<(), Error> {
        let command = self
            .command("psql", url)
            .args(["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"])
            .args(["--output=/dev/null", "--file=-"])
            .env("PGOPTIONS", "-c client_min_messages=warning -c default_transaction_read_only=off")
            .stdin(script.to_vec());
        SystemRunner.run(&command, cx).await?.success(&command)?;
        Ok(())
    }

    /// Restores what `pg_dump --format=custom` wrote into an empty database.
    pub async fn pg_restore(
        &self,
        url: &PostgresUrl,
        mut dump: ByteStream,
        name: &str,
        cx: &RunContext,
    ) -> Result<(), Error> {
        let folder = scratch(name);
        let (folder, path) = make_pipe(&folder)?;
        // The option takes a connection string too, so the name stands in one.
        let database = url.database().replace('\\', "\\\\").replace('\'', "\\'");
        let command = self
            .command("pg_restore", url)
            .args(["--no-password", "--exit-on-error", "--format=custom"])
            .arg(format!("--dbname=dbname='{database}'"))
            .arg(&path);
        let failed = |e: std::io::Error| Error::io("write", &path, e);
        // Open for reading too, or it could not be opened before the program reads it.
        let mut pipe =
            pipe::OpenOptions::new().read_write(true).open_sender(&path).map_err(failed)?;
        let mut running = SystemRunner.run(&command, cx).fuse();
        let mut ended = false;
        while let Some(piece) = dump.next().await {
            let piece = piece?;
            // What is after the last table it need not read; but whether the dump is whole, we must
            // know.
            if ended {
                continue;
            }
            tokio::select! {
                biased;
                written = pipe.write_all(&piece) => written.map_err(failed)?,
                output = &mut running => {
                    output?.success(&command)?;
                    ended = true;
                }
            }
        }
        drop(pipe);
        if !ended {
            running.await?.success(&command)?;
        }
        drop(folder);
        Ok(())
    }
}

/// What a program writes to the file that `--file=` names, as a stream. It ends without an
/// error only if the program ended with code 0. `name` tells it from others at the same time.
pub(super) fn stream(command: Command, name: &str) -> ByteStream {
    let (writer, bytes) = marked::stream(PIECES);
    let folder = scratch(name);
    tokio::spawn(async move {
        let done = pump(command, &folder, &writer).await;
        writer.end(done).await;
    });
    bytes
}

/// All that a program writes, which is `cap` bytes at most.
pub(super) async fn collect(command: Command, name: &str, cap: usize) -> Result<Bytes, Error> {
    let mut pieces = stream(command, name);
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
        if all.len() > cap {
            let message = format!("the schema has more than {} MiB", cap >> 20);
            return Err(Error::new(ErrorKind::Source, message)
                .remedy("back the database up as a `dump:`, which is `pg_dump -Fc`"));
        }
    }
    Ok(all.freeze())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let version = version.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    // A beta has no minor version.
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The folder of a pipe. Its name follows from the backup, so that whoever recovers finds it.
pub(super) fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ops-backup-{name}"))
}

/// Removes a folder of a pipe.
pub(super) fn clean_up(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", folder, error))
        }
        _ => Ok(()),
    }
}

struct Folder<'a>(&'a Path);

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        let _ = clean_up(self.0);
    }
}

/// A pipe with a name, in a folder that nobody else may enter.
fn make_pipe(folder: &Path) -> Result<(Folder<'_>, PathBuf), Error> {
    clean_up(folder)?;
    let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|e| Error::io("create", folder, e))?;
    let folder = Folder(folder);
    let path = folder.0.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR)
        .map_err(|e| Error::io("create", &path, e.into()))?;
    Ok((folder, path))
}

async fn pump(command: Command, folder: &Path, writer: &marked::Writer) -> Result<(), Error> {
    let (folder, path) = make_pipe(folder)?;
    let failed = |e: std::io::Error| Error::io("read", &folder.0.join("pipe"), e);
    // Open for writing too, or it would look closed before the program opened it.
    let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&path).map_err(failed)?;
    let mut option = std::ffi::OsString::from("--file=");
    option.push(&path);
    let command = command.arg(option);
    let cx = RunContext::default();
    let mut running = SystemRunner.run(&command, &cx).fuse();
    let mut buffer = vec![0; PIECE];
    let output = loop {
        let read = tokio::select! {
            biased;
            ready = pipe.readable() => {
                ready.map_err(failed)?;
                pipe.try_read(&mut buffer)
            }
            output = &mut running => break output?,
            () = writer.closed() => return Err(Error::cancelled()),
        };
        match read {
            Ok(count) => {
                writer.send(Bytes::copy_from_slice(&buffer[..count])).await?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    };
    // Past the runtime's own idea of what is readable, which may lag behind.
    loop {
        match rustix::io::read(pipe.as_fd(), &mut buffer[..]) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
            Ok(count) => {
                writer.send(Bytes::copy_from_slice(&buffer[..count])).await?;
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    output.success(&command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        let check = |text, expected| assert_eq!(parse_version(text), expected, "{text}");
        check("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, 18)));
        check("psql (PostgreSQL) 18beta1\n", Some((18, 0)));
        check("pg_dump: error", None);
    }

    #[tokio::test]
    async fn what_a_program_writes_arrives_whole_or_ends_in_an_error() {
        let run = async |script: &str, name: &str| {
            let command = Command::new("sh").args(["-c", script, "sh"]);
            let bytes = collect(command, name, 8 << 20).await;
            let gone = async {
                while scratch(name).exists() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the pipe is gone");
            bytes
        };
        let all = run("head -c 3000000 /dev/zero > \"${1#--file=}\"", "test-pipe-whole").await;
        assert_eq!(all.unwrap().len(), 3_000_000);
        let none = run("true", "test-pipe-none").await;
        assert!(none.unwrap().is_empty());
        let half =
            run("printf half > \"${1#--file=}\"; echo why >&2; exit 3", "test-pipe-half").await;
        assert!(half.unwrap_err().to_string().contains("why"));
        let much = run("cat /dev/zero > \"${1#--file=}\"", "test-pipe-much").await;
        assert!(much.unwrap_err().to_string().contains("more than 8 MiB"));
    }
}
