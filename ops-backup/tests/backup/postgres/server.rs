//! Databases of the test's own, on the server that `scripts/with-services` starts.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Output};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use ops_backup::{DatabaseOptions, Manifest, PostgresUrl, SourceSpec, Vault};
use ops_core::{Context, Report};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::fixture::{lenient, vault};

/// A database with a name of its own, a vault in memory, and a state directory. What was made under
/// that name is dropped at the end.
pub struct Server {
    pub dir: TempDir,
    /// The name of the database, and the beginning of every other name of this test.
    pub name: String,
    pub vault: Vault,
    pub store: Arc<dyn ObjectStore>,
    pub cx: Context,
    admin: url::Url,
}

impl Server {
    /// With an empty database.
    pub async fn new() -> Self {
        Self::at(Self::admin()).await
    }

    /// The server of the tests, as its superuser.
    pub fn admin() -> url::Url {
        let admin = std::env::var("OPS_TEST_POSTGRES_URL").expect(
            "OPS_TEST_POSTGRES_URL must name a PostgreSQL server with a superuser and a password: \
             run the tests with scripts/test or scripts/with-services",
        );
        admin.parse().expect("OPS_TEST_POSTGRES_URL is a URL")
    }

    /// On another server, whose superuser has the same password.
    pub async fn at(admin: url::Url) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::options();
        let mut file =
            file.write(true).create_new(true).mode(0o600).open(dir.path().join("pass")).unwrap();
        let password = admin.password().unwrap_or_default();
        writeln!(file, "*:*:*:{}:{password}\n*:*:*:*:plain", admin.username()).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        // Short, so that no name that is derived from it must be cut.
        let name = format!("ops_{}", &ulid::Ulid::generate().to_string().to_lowercase()[10..]);
        let cx = lenient(&dir.path().join("state"));
        let server = Self { vault: vault(store.clone()).await, store, dir, name, cx, admin };
        server.sql("postgres", &format!("CREATE DATABASE {}", server.quoted())).await;
        server
    }

    /// With what this script makes: `"ROLE ` stands for the beginning of a role's name, `"BASE"` for
    /// the database.
    pub async fn with(script: &str) -> Self {
        let server = Self::new().await;
        server.script(&server.named(script));
        server
    }

    pub fn named(&self, script: &str) -> String {
        let role = format!("\"{} ", self.name);
        script.replace("\"ROLE ", &role).replace("\"BASE\"", &self.quoted())
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.name)
    }

    /// The address of a database, for the superuser.
    pub fn url_of(&self, database: &str) -> PostgresUrl {
        self.url_as(self.admin.username(), database)
    }

    pub fn url_as(&self, user: &str, database: &str) -> PostgresUrl {
        let mut url = self.admin.clone();
        url.set_password(None).unwrap();
        url.set_username(user).unwrap();
        url.set_path(database);
        url.set_query(Some(&format!("passfile={}", self.dir.path().join("pass").display())));
        url.to_string().parse().unwrap()
    }

    pub fn url(&self) -> PostgresUrl {
        self.url_of(&self.name)
    }

    pub fn spec(&self) -> SourceSpec {
        SourceSpec::postgres(self.url())
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        self.connector(database).await
    }

    /// For a task of its own.
    pub fn connector(&self, database: &str) -> impl Future<Output = PgConnection> + use<> {
        let options: PgConnectOptions = self.admin.as_str().parse().unwrap();
        let options = options.database(database).disable_statement_logging();
        async move { options.connect().await.unwrap() }
    }

    pub async fn sql(&self, database: &str, sql: &str) {
        let mut db = self.connect(database).await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }

    pub async fn ask(&self, database: &str, sql: &str) -> String {
        let mut db = self.connect(database).await;
        let sql = format!("SELECT coalesce(({sql})::text, 'NULL')");
        let answer = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap();
        db.close().await.unwrap();
        answer
    }

    /// The databases whose names begin with this test's, without that beginning.
    pub async fn databases(&self) -> Vec<String> {
        let sql = format!(
            "SELECT string_agg(substr(datname, {}), ',' ORDER BY datname) FROM pg_database
            WHERE starts_with(datname, '{}')",
            self.name.len() + 1,
            self.name
        );
        self.ask("postgres", &sql).await.split(',').map(str::to_owned).collect()
    }

    fn program(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", self.admin.host_str().unwrap())
            .env("PGPORT", self.admin.port().unwrap_or(5432).to_string())
            .env("PGUSER", self.admin.username())
            .env("PGPASSFILE", self.dir.path().join("pass"))
            .env("PGDATABASE", database);
        command
    }

    pub fn script(&self, script: &str) {
        let path = self.dir.path().join("script.sql");
        std::fs::write(&path, script).unwrap();
        let mut psql = self.program("psql", &self.name);
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"]).arg(&path);
        succeed(psql);
    }

    /// What `pg_dump` says of a database, with `BASE` for its name, and the rows of each table in
    /// the order of their texts.
    pub fn dump_of(&self, database: &str) -> String {
        self.dump_as(database, &self.name)
    }

    /// As [`dump_of`](Self::dump_of), of a database whose roles are those of another test.
    pub fn dump_as(&self, database: &str, name: &str) -> String {
        let mut dump = self.program("pg_dump", database);
        dump.args(["--create", "--restrict-key=museum"]);
        let text = String::from_utf8(succeed(dump).stdout).unwrap();
        let text = ["owner", "plain", "reader", "space"].iter().fold(text, |text, role| {
            text.replace(&format!("{name} {role}"), &format!("ROLE {role}"))
        });
        let quoted = format!("\"{}\"", database.replace('"', "\"\""));
        let text = text.replace(&quoted, "BASE").replace(database, "BASE");
        let (mut lines, mut rows) = (Vec::new(), None);
        // How it connects to a database with such a name.
        let connects =
            |line: &&str| line.starts_with("\\connect") || line.starts_with("\\encoding");
        for line in text.lines().filter(|line| !connects(line)) {
            match &mut rows {
                None => {
                    lines.push(line);
                    if line.starts_with("COPY ") {
                        rows = Some(Vec::new());
                    }
                }
                Some(found) if line == "\\." => {
                    found.sort_unstable();
                    lines.append(found);
                    lines.push(line);
                    rows = None;
                }
                Some(found) => found.push(line),
            }
        }
        lines.join("\n")
    }

    pub async fn back_up(&self) -> Manifest {
        self.vault.create("pg", &[self.spec()], &self.cx).await.unwrap()
    }

    pub async fn restore(
        &self,
        made: &Manifest,
        to: &str,
        options: &DatabaseOptions,
    ) -> Result<Report, ops_backup::Error> {
        let place = self.vault.database(&self.url_of(to)).await?;
        self.vault.restore_database("pg", made.id, &place, options, &self.cx).await
    }
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output
}

impl Drop for Server {
    fn drop(&mut self) {
        let script = format!(
            "DELETE FROM pg_subscription
                WHERE subdbid IN (SELECT oid FROM pg_database WHERE starts_with(datname, '{0}'));
            SELECT format('DROP DATABASE %I WITH (FORCE);', datname) FROM pg_database
                WHERE starts_with(datname, '{0}')
            UNION ALL SELECT format('DROP ROLE %I;', rolname) FROM pg_roles
                WHERE starts_with(rolname, '{0}')
            UNION ALL SELECT format('DROP TABLESPACE %I;', spcname) FROM pg_tablespace
                WHERE starts_with(spcname, '{0}') \\gexec\n",
            self.name
        );
        let path = self.dir.path().join("drop.sql");
        std::fs::write(&path, script).unwrap();
        let mut psql = self.program("psql", "postgres");
        let _ = psql.args(["-X", "-q", "-f"]).arg(&path).output();
    }
}
