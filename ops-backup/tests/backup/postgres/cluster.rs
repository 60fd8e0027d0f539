//! A second server, which has nothing that the first one has.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ops_backup::DatabaseOptions;

use super::museum::{MUSEUM, assert_same};
use super::server::Server;

pub struct Cluster {
    process: Child,
    pub admin: url::Url,
    _folder: tempfile::TempDir,
}

/// Where the server's programs are: on Debian outside of everybody's `PATH`.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").is_file());
    found.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).unwrap_or_default();
        version.to_string_lossy().parse::<u32>().unwrap_or_default()
    });
    found.pop().unwrap_or_default()
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.arg(program).current_dir("/").stdin(Stdio::null());
    command
}

/// A folder with `data`, which belongs to the server, and `pass`, the superuser's password.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    set(folder.path(), 0o755).unwrap();
    let (data, pass) = (folder.path().join("data"), folder.path().join("pass"));
    std::fs::create_dir(&data).unwrap();
    set(&data, 0o700).unwrap();
    std::fs::write(&pass, Server::admin().password().unwrap_or_default()).unwrap();
    set(&pass, 0o600).unwrap();
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").arg("postgres:").args([&data, &pass]).status();
        assert!(owned.unwrap().success());
    }
    folder
}

fn done(mut command: Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl Cluster {
    pub async fn start() -> Self {
        let folder = folder();
        let mut init = as_postgres(&programs().join("initdb"));
        init.arg("--pgdata").arg(folder.path().join("data"));
        init.arg("--pwfile").arg(folder.path().join("pass"));
        init.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        init.arg("--username").arg(Server::admin().username());
        done(init);
        Self::serve(folder).await
    }

    /// A hot standby that follows this server.
    pub async fn replica(&self) -> Self {
        let folder = folder();
        let mut copy = as_postgres(&programs().join("pg_basebackup"));
        copy.arg("--pgdata").arg(folder.path().join("data"));
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname"]);
        copy.arg(self.admin.as_str());
        done(copy);
        Self::serve(folder).await
    }

    async fn serve(folder: tempfile::TempDir) -> Self {
        let data = folder.path().join("data");
        let mut admin = Server::admin();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        admin.set_host(Some("127.0.0.1")).unwrap();
        admin.set_port(Some(port)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut postgres = as_postgres(&programs().join("postgres"));
        postgres.arg("-D").arg(&data).arg("-p").arg(port.to_string());
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        postgres.args(["-c", "fsync=off", "-c", "wal_level=logical"]);
        let process = postgres.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut cluster = Self { process, admin, _folder: folder };
        let begun = Instant::now();
        while !cluster.answers() {
            assert_eq!(cluster.process.try_wait().unwrap(), None, "the second server ended");
            assert!(begun.elapsed() < Duration::from_mins(1), "the second server does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster
    }

    fn answers(&self) -> bool {
        let mut ready = Command::new(programs().join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p"]).arg(self.admin.port().unwrap().to_string());
        ready.status().unwrap().success()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(pid) =
            i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // An immediate shutdown: nobody wants its data.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_into_an_empty_cluster_without_its_roles_and_tablespaces() {
    let server = Server::with(MUSEUM).await;
    // In a folder of the server's own, which needs no folder that another server has, too.
    server.script(&server.named(
        "SET allow_in_place_tablespaces = true; CREATE TABLESPACE \"ROLE space\" LOCATION '';
        CREATE TABLE elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE \"ROLE space\")
            TABLESPACE \"ROLE space\"; INSERT INTO elsewhere VALUES (1);",
    ));
    let expected = server.dump_of(&server.name);
    let made = server.back_up().await;
    let cluster = Cluster::start().await;
    let second = Server::at(cluster.admin.clone()).await;
    let restore = async |options: DatabaseOptions| {
        let place = server.vault.database(&second.url_of(&server.name)).await?;
        server.vault.restore_database("pg", made.id, &place, &options, &server.cx).await
    };
    let refused = restore(DatabaseOptions::default()).await.unwrap_err().to_string();
    for part in [
        format!("lacks roles: {0} owner, {0} reader", server.name),
        "let the restore create them".to_owned(),
        format!("lacks tablespaces: {} space", server.name),
        "`globals:` backup".to_owned(),
    ] {
        assert!(refused.contains(&part), "{part}: {refused}");
    }
    assert_eq!(second.databases().await, [""], "nothing was made");
    second.script(&server.named(
        "SET allow_in_place_tablespaces = true; CREATE TABLESPACE \"ROLE space\" LOCATION '';",
    ));
    restore(DatabaseOptions::default().create_roles()).await.unwrap();
    // The second server's tests have other names.
    let found = second.dump_as(&server.name, &server.name);
    assert_same(&expected, &found);
    second.script(&format!("DELETE FROM pg_subscription; DROP DATABASE \"{}\";", server.name));
}
