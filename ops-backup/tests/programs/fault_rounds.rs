//! Rounds of operations on a store that fails by chance, each made of a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use ops_backup::retention::Policy;
use ops_backup::{
    BackupId, Depth, FaultStore, KeyName, Manifest, Patience, Recipient, RestoreOptions, Settings,
    SourceSpec, Unlock, Vault,
};
use ops_core::retry::Retry;
use ops_core::{ApproveIf, Context, Environment, Secret};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What happened in all rounds.
#[derive(Debug, Default)]
pub struct Figures {
    pub rounds: u64,
    pub calls: u64,
    pub backups: (u64, u64),
    pub prunes: (u64, u64),
    pub restores: (u64, u64),
    pub drills: (u64, u64),
    pub recoveries: (u64, u64),
    /// Looks at the store through one that does not fail.
    pub looks: u64,
    pub verified: u64,
    pub restored: u64,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.calls += other.calls;
        for (sum, more) in [
            (&mut self.backups, other.backups),
            (&mut self.prunes, other.prunes),
            (&mut self.restores, other.restores),
            (&mut self.drills, other.drills),
            (&mut self.recoveries, other.recoveries),
        ] {
            *sum = (sum.0 + more.0, sum.1 + more.1);
        }
        self.looks += other.looks;
        self.verified += other.verified;
        self.restored += other.restored;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, calls, looks, verified, restored, .. } = self;
        writeln!(f, "{rounds} rounds, {calls} calls of stores that fail by chance")?;
        for (what, (fine, failed)) in [
            ("backups", self.backups),
            ("prunes", self.prunes),
            ("restores", self.restores),
            ("drills", self.drills),
            ("recoveries", self.recoveries),
        ] {
            writeln!(f, "{what}: {fine} succeeded, {failed} failed")?;
        }
        write!(
            f,
            "{looks} looks: {verified} listed backups verified, {restored} restored; none torn, no success false"
        )
    }
}

/// Runs these seeds, several at once.
///
/// # Errors
/// Of each seed that shows a torn backup, a lost one, or a success that is none.
pub async fn run(seeds: std::ops::Range<u64>, at_once: usize) -> Result<Figures, String> {
    let mut rounds = futures::stream::iter(seeds)
        .map(|seed| async move {
            let runtime = tokio::runtime::Handle::current();
            let round = tokio::task::spawn_blocking(move || runtime.block_on(round(seed)));
            let done = round.await.map_err(Failure::from).flatten();
            done.map_err(|why| format!("seed {seed}: {why}"))
        })
        .buffer_unordered(at_once);
    let (mut all, mut wrong) = (Figures::default(), Vec::new());
    while let Some(round) = rounds.next().await {
        match round {
            Ok(figures) => all.add(&figures),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(wrong.join("\n")) }
}

/// A folder of a round's own.
struct Scratch(PathBuf);

impl Scratch {
    /// In memory where there is such a place: thousands of fsyncs say nothing about a store.
    fn new() -> std::io::Result<Self> {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = parent.join(format!("backup-faults-{}", ulid::Ulid::generate()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.next() % all.len() as u64).unwrap_or_default()]
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.next() % most;
        (0..=length / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}

/// What is backed up: the files of a directory, or the rows of a database.
type Content = BTreeMap<String, Vec<u8>>;

struct Round {
    random: Random,
    dir: Scratch,
    inner: Arc<dyn ObjectStore>,
    key: Option<(Recipient, Secret)>,
    figures: Figures,
    is_database: bool,
    /// What each backup that was reported as made holds, and must until a prune takes it.
    made: BTreeMap<BackupId, Content>,
    now: Content,
    /// What was restored once already.
    seen: BTreeSet<BackupId>,
}

async fn round(seed: u64) -> Result<Figures, Failure> {
    let mut random = Random(seed);
    let dir = Scratch::new()?;
    let inner: Arc<dyn ObjectStore> = if random.next().is_multiple_of(3) {
        let store = dir.0.join("store");
        fs::create_dir(&store)?;
        Arc::new(LocalFileSystem::new_with_prefix(store)?)
    } else {
        Arc::new(InMemory::new())
    };
    let key = if random.next().is_multiple_of(2) {
        let identity = age::x25519::Identity::generate();
        let secret = Secret::new(age::secrecy::ExposeSecret::expose_secret(&identity.to_string()));
        Some((Recipient::public(&identity.to_public().to_string())?, secret))
    } else {
        None
    };
    let is_database = random.next().is_multiple_of(3);
    let mut round = Round {
        random,
        dir,
        inner,
        key,
        figures: Figures { rounds: 1, ..Figures::default() },
        is_database,
        made: BTreeMap::new(),
        now: Content::new(),
        seen: BTreeSet::new(),
    };
    round.all().await?;
    Ok(round.figures)
}

impl Round {
    async fn all(&mut self) -> Result<(), Failure> {
        let of = self.random.of(&[2, 5, 12, 40, 150]);
        let mut faulty = FaultStore::seeded(self.inner.clone(), self.random.next(), of);
        let mut deadline = Duration::from_secs(20);
        if self.random.next().is_multiple_of(4) {
            // What arrives late arrives while the caller tries again, or goes back.
            deadline = Duration::from_millis(self.random.of(&[10, 40]));
            faulty = faulty.silent(deadline + Duration::from_millis(self.random.of(&[2, 30])));
        }
        let faulty = Arc::new(faulty);
        let attempts = self.random.of(&[1, 2, 6]);
        let operations = 2 + self.random.next() % 3;
        for _ in 0..operations {
            // Each in a program of its own, as it were.
            let opened = self.open(faulty.clone(), deadline, attempts).await;
            let listed = self.made.keys().copied().collect::<Vec<_>>();
            if let Ok(vault) = opened {
                match self.random.next() % 8 {
                    0 if !listed.is_empty() => self.prune(&vault).await?,
                    1 if !listed.is_empty() => self.restore(&vault, &listed).await?,
                    2 if !listed.is_empty() => self.drill(&vault, &listed).await?,
                    3 => self.recover(&vault).await?,
                    _ => self.back_up(&vault).await?,
                }
            }
            // What is late arrives at some time.
            while faulty.under_way() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.look().await?;
        }
        self.seen.clear();
        self.look().await?;
        self.figures.calls += faulty.calls();
        Ok(())
    }

    async fn open(
        &self,
        store: Arc<dyn ObjectStore>,
        deadline: Duration,
        attempts: usize,
    ) -> Result<Vault, ops_backup::Error> {
        let retry = Retry::new().attempts(attempts).first_delay(Duration::from_millis(1));
        let mut settings = Settings::default();
        settings.chunk_size = 4 << 10;
        let patience = Patience::default().deadline(deadline).retry(retry);
        let mut builder = Vault::builder().settings(settings).patience(patience);
        if let Some((recipient, secret)) = &self.key {
            let name: KeyName = "ops".parse()?;
            builder = builder.encrypt_for(name, recipient.clone());
            builder = builder.unlock(Unlock::Identity(secret.clone()));
        }
        builder.open(store, "memory:faults").await
    }

    fn context(&self) -> Context {
        Context::builder(self.dir.0.join("state"))
            .environment(Environment::Development)
            .approver(ApproveIf::new("test", |_: &_| true))
            .undo_budget(Duration::from_millis(50))
            .finish_budget(Duration::from_millis(50))
            .build()
    }

    fn data(&self) -> PathBuf {
        self.dir.0.join("data")
    }

    fn spec(&self, path: PathBuf) -> SourceSpec {
        if self.is_database { SourceSpec::sqlite(path) } else { SourceSpec::directory(path) }
    }

    /// Some of it stays as it was, so that there is something to reuse.
    async fn change(&mut self) -> Result<(), Failure> {
        for _ in 0..=self.random.next() % 3 {
            let name = format!("{}", self.random.next() % 6);
            let bytes = self.random.bytes(4_000);
            self.now.insert(name, bytes);
        }
        let path = self.data();
        if !self.is_database {
            fs::create_dir_all(&path)?;
            for (name, bytes) in &self.now {
                fs::write(path.join(name), bytes)?;
            }
            return Ok(());
        }
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).disable_statement_logging();
        let mut db = options.connect().await?;
        let table = "CREATE TABLE IF NOT EXISTS t(name TEXT PRIMARY KEY, bytes BLOB)";
        sqlx::raw_sql(table).execute(&mut db).await?;
        for (name, bytes) in &self.now {
            let insert = sqlx::query("INSERT OR REPLACE INTO t VALUES(?, ?)");
            insert.bind(name).bind(bytes).execute(&mut db).await?;
        }
        Ok(db.close().await?)
    }

    async fn back_up(&mut self, vault: &Vault) -> Result<(), Failure> {
        self.change().await?;
        let spec = self.spec(self.data());
        match vault.create("s", &[spec], &self.context()).await {
            Ok(Manifest { id, .. }) => {
                self.figures.backups.0 += 1;
                self.made.insert(id, self.now.clone());
                if !self.list().await?.contains(&id) {
                    return Err(
                        format!("backup {id} was reported as made, and is not there").into()
                    );
                }
            }
            Err(_) => self.figures.backups.1 += 1,
        }
        Ok(())
    }

    /// One that goes back leaves all of them; what it kept is there in any case.
    async fn prune(&mut self, vault: &Vault) -> Result<(), Failure> {
        let before = self.list().await?;
        let last = before.last().copied();
        let pruned = vault.prune("s", Policy::new().last(1), &self.context()).await;
        let left = self.list().await?;
        if left.last().copied() != last {
            return Err(format!("a prune left {left:?} of {before:?}").into());
        }
        if pruned.is_ok() {
            self.figures.prunes.0 += 1;
            if left.len() > 1 {
                return Err(format!("a prune that succeeded left {left:?}").into());
            }
        } else {
            self.figures.prunes.1 += 1;
        }
        self.made.retain(|id, _| left.contains(id));
        Ok(())
    }

    async fn restore(&mut self, vault: &Vault, listed: &[BackupId]) -> Result<(), Failure> {
        let id = self.random.of(listed);
        let to = self.dir.0.join(format!("restored-{}", self.figures.looks));
        let place = vault.place(&self.spec(to.clone()))?;
        let options = RestoreOptions::default();
        if vault.restore("s", id, &place, &options, &self.context()).await.is_ok() {
            self.figures.restores.0 += 1;
            return self.compare(id, &to).await;
        }
        self.figures.restores.1 += 1;
        if to.exists() {
            return Err(format!("a restore of {id} that failed left something").into());
        }
        Ok(())
    }

    /// Of sound backups a drill says that they are sound, or it fails.
    async fn drill(&mut self, vault: &Vault, listed: &[BackupId]) -> Result<(), Failure> {
        let id = self.random.of(listed);
        match vault.drill("s", id, &self.context()).await {
            Ok(found) if found.whole => self.figures.drills.0 += 1,
            Ok(found) => {
                return Err(format!("a drill attests damage of {id}: {:?}", found.problems).into());
            }
            Err(_) => self.figures.drills.1 += 1,
        }
        Ok(())
    }

    async fn recover(&mut self, vault: &Vault) -> Result<(), Failure> {
        match ops_core::recover(&vault, &self.context()).await {
            Ok(_) => self.figures.recoveries.0 += 1,
            Err(_) => self.figures.recoveries.1 += 1,
        }
        Ok(())
    }

    /// Through a store that does not fail.
    async fn sound(&self) -> Result<Vault, Failure> {
        Ok(self.open(self.inner.clone(), Duration::from_secs(20), 1).await?)
    }

    async fn list(&self) -> Result<Vec<BackupId>, Failure> {
        Ok(self.sound().await?.list("s").await?)
    }

    /// Through a store that does not fail: what is listed is whole and can be restored, and nothing
    /// is gone that was reported as made. Every byte is read each time; restored is each backup when
    /// it is new, and in the end.
    async fn look(&mut self) -> Result<(), Failure> {
        let vault = self.sound().await?;
        self.figures.looks += 1;
        let listed = vault.list("s").await?;
        for id in self.made.keys() {
            if !listed.contains(id) {
                return Err(format!("backup {id} is gone").into());
            }
        }
        let fresh = self.dir.0.join("look");
        for id in listed {
            let found = vault.verify("s", id, Depth::Full).await?;
            if !found.is_whole() {
                return Err(format!("backup {id} is listed and torn: {found:?}").into());
            }
            self.figures.verified += 1;
            if !self.seen.insert(id) {
                continue;
            }
            fs::create_dir(&fresh)?;
            let cx = Context::builder(fresh.join("state")).environment(Environment::Development);
            let to = fresh.join("to");
            let place = vault.place(&self.spec(to.clone()))?;
            vault.restore("s", id, &place, &RestoreOptions::default(), &cx.build()).await?;
            self.compare(id, &to).await?;
            self.figures.restored += 1;
            fs::remove_dir_all(&fresh)?;
        }
        Ok(())
    }

    /// A backup whose maker was told that it failed may be listed all the same: then nobody here
    /// knows its content, but it verifies and is restored.
    async fn compare(&self, id: BackupId, restored: &Path) -> Result<(), Failure> {
        let found = if self.is_database { rows(restored).await? } else { files(restored)? };
        match self.made.get(&id) {
            Some(expected) if *expected != found => {
                Err(format!("backup {id} was restored as something else").into())
            }
            _ => Ok(()),
        }
    }
}

fn files(folder: &Path) -> Result<Content, Failure> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, fs::read(path)?))
    };
    fs::read_dir(folder)?.map(entry).collect()
}

async fn rows(path: &Path) -> Result<Content, Failure> {
    let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let mut db = options.connect().await?;
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT name, bytes FROM t").fetch_all(&mut db).await?;
    db.close().await?;
    Ok(rows.into_iter().collect())
}
