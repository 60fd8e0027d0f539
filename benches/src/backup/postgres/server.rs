//! A PostgreSQL of the benchmark's own, in the scratch folder.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, User, geteuid, sysconf};

use crate::Failure;
use crate::child::{measured, output};
use crate::rounds::Cost;

/// How long it may take to start, or to let sessions end.
const PATIENCE: Duration = Duration::from_mins(1);

/// As a server with some memory has it. It answers on a socket in its own folder only.
const SETTINGS: &str = "
listen_addresses = ''
max_connections = 50
shared_buffers = 512MB
maintenance_work_mem = 256MB
max_wal_size = 4GB
checkpoint_timeout = 30min
autovacuum = off
wal_level = replica
archive_mode = on
archive_command = 'true'
";

/// A server that ends with this.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    folder: PathBuf,
    /// Who it runs as, where that is somebody else: PostgreSQL refuses to be root.
    owner: Option<User>,
}

impl Server {
    /// Starts the newest PostgreSQL that is installed, in a new folder.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let programs = programs()?;
        let owner = if geteuid().is_root() {
            let user = User::from_name("postgres")?;
            Some(user.ok_or("there is no user `postgres`, and PostgreSQL refuses to be root")?)
        } else {
            None
        };
        std::fs::create_dir(folder)?;
        if let Some(owner) = &owner {
            // So that it gets to its own folder.
            let above = folder.parent().unwrap_or(Path::new("/"));
            std::fs::set_permissions(above, PermissionsExt::from_mode(0o711))?;
            chown(folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }
        let server = |program: &str| {
            let mut command = as_user(owner.as_ref(), &programs.join(program));
            command.current_dir("/").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
            command
        };
        let data = folder.join("data");
        let mut init = server("initdb");
        init.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]);
        output(init.arg("--pgdata").arg(&data))?;
        let mut settings = std::fs::read_to_string(data.join("postgresql.conf"))?;
        settings.push_str(SETTINGS);
        settings.push_str("unix_socket_directories = '");
        settings.push_str(&folder.display().to_string());
        settings.push_str("'\n");
        std::fs::write(data.join("postgresql.conf"), settings)?;
        let log = std::fs::File::create_new(folder.with_extension("log"))?;
        let mut postgres = server("postgres");
        postgres.arg("-D").arg(&data).stdout(log.try_clone()?).stderr(log);
        let server = Self { child: postgres.spawn()?, folder: folder.to_owned(), owner };
        let begun = Instant::now();
        while server.ask("postgres", "SELECT 1").is_err() {
            if begun.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(folder.with_extension("log"))?;
                return Err(format!("PostgreSQL does not start: {said}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that runs as the server does, and so may read its files.
    pub fn as_owner(&self, program: &str) -> Command {
        as_user(self.owner.as_ref(), Path::new(program))
    }

    /// Gives a folder to whom the server runs as.
    pub fn give(&self, folder: &Path) -> Result<(), Failure> {
        if let Some(owner) = &self.owner {
            chown(folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }
        Ok(())
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.display())
    }

    /// Lets a command find it.
    pub fn reach(&self, command: &mut Command, database: &str) {
        command
            .env("PGHOST", &self.folder)
            .env("PGPORT", "5432")
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database);
    }

    /// What it answers, a row a line.
    pub fn ask(&self, database: &str, sql: &str) -> Result<String, Failure> {
        let mut psql = Command::new("psql");
        self.reach(&mut psql, database);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        Ok(output(&mut psql)?.trim_end().to_owned())
    }

    /// Nothing is left to do of what came before.
    pub fn settle(&self) -> Result<(), Failure> {
        self.ask("postgres", "CHECKPOINT")?;
        Ok(rustix::fs::syncfs(std::fs::File::open(&self.folder)?)?)
    }

    /// Runs a command; what it says, and what it and the server's sessions cost.
    pub fn measured(&self, command: &mut Command) -> Result<(String, Cost), Failure> {
        // A session counts when it has ended, which may be a little later than its client.
        self.until_nobody_is_served()?;
        let before = self.ended()?;
        let (said, mut cost) = measured(command)?;
        self.until_nobody_is_served()?;
        let served = self.ended()?.saturating_sub(before);
        cost.cpu = cost.cpu.map(|cpu| cpu + served);
        Ok((said, cost))
    }

    fn until_nobody_is_served(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.serves()? {
            if begun.elapsed() > PATIENCE {
                return Err("a session did not end".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether it has a session. Its other processes stay, or come and go as they like.
    fn serves(&self) -> Result<bool, Failure> {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let is_session = |child: &str| {
            let title = std::fs::read(format!("/proc/{child}/cmdline"));
            // One that has ended has no title until its end is counted.
            title.is_ok_and(|title| {
                title.is_empty() || String::from_utf8_lossy(&title).contains(" [local] ")
            })
        };
        Ok(children.split_whitespace().any(is_session))
    }

    /// What processors did for it and for its sessions that have ended.
    fn ended(&self) -> Result<Duration, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything: from the third field on.
        let fields = stat.rsplit_once(')').ok_or("the process has no state")?.1;
        let times = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
        let ticks: u64 = times.collect::<Result<Vec<_>, _>>()?.iter().sum();
        let second = sysconf(SysconfVar::CLK_TCK)?.ok_or("the clock has no ticks")?;
        Ok(Duration::from_secs_f64(ticks as f64 / second as f64))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, without waiting for sessions.
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

/// The folder with the programs of the newest server.
fn programs() -> Result<PathBuf, Failure> {
    let major = |path: &Path| -> u32 {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse().ok()).unwrap_or_default()
    };
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = debian.map(|entry| entry.path()).collect();
    found.sort_by_key(|path| major(path));
    let debian = found.into_iter().rev().map(|path| path.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = debian.chain(std::env::split_paths(&path));
    all.find(|folder| folder.join("initdb").is_file()).ok_or_else(|| {
        "there is no PostgreSQL server: `initdb` (Debian package `postgresql`) is missing".into()
    })
}

/// It ends with this process.
fn as_user(user: Option<&User>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=TERM");
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        command.arg("--init-groups");
    }
    command.arg(program);
    command
}
