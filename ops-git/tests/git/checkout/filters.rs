//! Filters: one for each file, one for many, and those that hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::{Context, Environment, ManualClock, Outcome};
use ops_git::{CheckoutOptions, ErrorKind, GitRepository, MergeOptions};

use super::arena::{Arena, Ours, contents, ours, same_for_git, shell, theirs, tidy, whole};
use crate::fetch::left::no_process;
use crate::fixture::{World, chain, git};

/// Long enough for every machine: what is waited for comes at once, or never.
const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn one_filter_for_many_files_does_what_git_does() {
    let program = env!("CARGO_BIN_EXE_git-filter-program");
    let arena = Arena::new("a.txt=one b.txt=one", "a.txt=two b.txt=two d/c.txt=new x=new", "");
    let log = |name: &str| arena.path(&format!("{name}.log"));
    let copy = |name: &str| {
        let repo = arena.copy(name);
        let line = format!("{program} '{}'", log(name).display());
        git(&repo, &["config", "filter.up.process", &line]);
        git(&repo, &["config", "filter.up.required", "true"]);
        shell(&repo, "echo '*.txt filter=up' > .git/info/attributes; rm *.txt; git checkout -q .");
        fs::remove_file(log(name)).unwrap();
        repo
    };
    let (a, b) = (copy("ours"), copy("theirs"));
    assert!(matches!(ours(&arena, &a, "new", CheckoutOptions::default()).await, Ours::Done));
    theirs(&b, "new").unwrap();
    same_for_git(&a, &b, "a process");
    assert!(contents(&a)[Path::new("d/c.txt")].ends_with("\"NEW\\n\""));
    let said = fs::read_to_string(log("ours")).unwrap();
    assert!(said.contains("smudge a.txt\n") && said.contains("smudge d/c.txt\n"), "{said}");
    assert_eq!(said.matches("smudge").count(), 3, "each is asked once: {said}");
    // What it makes smaller letters of is compared, not what lies there.
    shell(&a, "touch -d '1 hour ago' a.txt; printf 'TWO\\n' > b.txt");
    assert!(matches!(ours(&arena, &a, "old", CheckoutOptions::default()).await, Ours::Done));
    tidy(&a);
}

/// Where a filter says that it runs, and the work that never ends there.
struct Hung {
    word: String,
    began: PathBuf,
}

impl Hung {
    fn new(arena: &Path, number: u32) -> Self {
        let word = format!("sleep 64{number}{}", std::process::id());
        Self { word, began: arena.join("began") }
    }

    /// It hangs in a grandchild, deaf to the first signal.
    fn line(&self) -> String {
        format!(
            "trap '' TERM; echo > '{}'; {} & wait; {}",
            self.began.display(),
            self.word,
            self.word
        )
    }

    async fn began(&self) {
        while !self.began.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Surroundings with a deadline that comes when it is called.
fn at(arena: &Arena, clock: &ManualClock) -> Context {
    Context::builder(arena.path("state"))
        .environment(Environment::Development)
        .clock(clock.clone())
        .deadline(DEADLINE)
        .build()
}

const DEADLINE: Duration = Duration::from_mins(10);

/// Waits until the filter runs, and then cancels, or lets the deadline come.
async fn over(hung: &Hung, cancels: bool, cx: &Context, clock: &ManualClock) {
    hung.began().await;
    if cancels {
        cx.cancellation().cancel();
    } else {
        clock.advance(DEADLINE);
    }
}

#[tokio::test]
async fn a_filter_that_hangs_ends_with_the_step_at_a_cancellation_and_at_the_deadline() {
    for (number, (key, cancels)) in
        [("smudge", true), ("smudge", false), ("process", true), ("process", false)]
            .into_iter()
            .enumerate()
    {
        let arena = Arena::new("a=1", "a=2 f=1", "echo 'f filter=hang' > .git/info/attributes");
        let hung = Hung::new(arena.dir.path(), u32::try_from(number).unwrap());
        let repo = arena.copy("ours");
        git(&repo, &["config", &format!("filter.hang.{key}"), &hung.line()]);
        let before = whole(&repo);
        let repository = GitRepository::open(&repo).unwrap();
        let plan = repository.plan_checkout("new", CheckoutOptions::default()).await.unwrap();
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let cx = at(&arena, &clock);
        let both = async {
            tokio::join!(repository.execute(plan, &cx), over(&hung, cancels, &cx, &clock)).0
        };
        let ended = tokio::time::timeout(LONG, both).await.unwrap();
        let error = ended.unwrap_err();
        let report = error.report().unwrap();
        assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{key}: {report:?}");
        assert!(report.error.join(": ").contains("the filter was ended"), "{key}: {report:?}");
        no_process(&hung.word);
        assert_eq!(whole(&repo), before, "{key}");
        tidy(&repo);
    }
}

#[tokio::test]
async fn a_filter_for_many_that_stops_answering_ends_with_an_export() {
    let world = World::new();
    world.commit("a.txt", "a\n");
    world.commit("hang.txt", "h\n");
    world.push();
    let (mirror, log) = (world.mirror(), world.dir.path().join("filter.log"));
    mirror.safe_pull(&world.cx()).await.unwrap();
    let program = env!("CARGO_BIN_EXE_git-filter-program");
    let line = format!("{program} '{}'", log.display());
    git(&world.mirror_path(), &["config", "filter.up.process", &line]);
    fs::create_dir_all(world.mirror_path().join("info")).unwrap();
    fs::write(world.mirror_path().join("info/attributes"), "*.txt filter=up\n").unwrap();
    let (cx, folder) = (world.cx(), world.dir.path().join("release"));
    let plan = mirror.plan_export("main", &folder).await.unwrap();
    let meanwhile = async {
        while !fs::read_to_string(&log).is_ok_and(|said| said.contains("smudge hang.txt")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cx.cancellation().cancel();
    };
    let both = async { tokio::join!(mirror.execute(plan, &cx), meanwhile).0 };
    let error = tokio::time::timeout(LONG, both).await.unwrap().unwrap_err();
    let report = error.report().unwrap();
    assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{report:?}");
    assert!(report.error.join(": ").contains("the filter was ended"), "{report:?}");
    no_process(log.to_str().unwrap());
    let left = world.dir.path().read_dir().unwrap().flatten().map(|entry| entry.file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains("release")));
}

#[tokio::test]
async fn a_filter_that_hangs_while_something_is_planned_ends_when_nobody_waits() {
    let arena = Arena::new("a=1", "a=2", "echo 'a filter=hang' > .git/info/attributes");
    let hung = Hung::new(arena.dir.path(), 9);
    let repo = arena.copy("ours");
    git(&repo, &["config", "filter.hang.clean", &hung.line()]);
    // Only the content tells.
    shell(&repo, "touch -d '1 hour ago' a");
    let repository = GitRepository::open(&repo).unwrap();
    let planned = async {
        tokio::select! {
            planned = repository.plan_checkout("new", CheckoutOptions::default()) => Some(planned),
            () = hung.began() => None,
        }
    };
    let planned = tokio::time::timeout(LONG, planned).await.unwrap();
    assert!(planned.is_none(), "{planned:?}");
    tokio::task::spawn_blocking(move || no_process(&hung.word)).await.unwrap();
    tidy(&repo);
}

#[tokio::test]
async fn a_filter_that_hangs_before_an_operation_begins_ends_with_it() {
    for cancels in [true, false] {
        let arena = Arena::new("a=1", "a=2", "echo 'a filter=hang' > .git/info/attributes");
        let hung = Hung::new(arena.dir.path(), 7);
        let repo = arena.copy("ours");
        let repository = GitRepository::open(&repo).unwrap();
        let plan = repository.plan_checkout("new", CheckoutOptions::default()).await.unwrap();
        git(&repo, &["config", "filter.hang.clean", &hung.line()]);
        shell(&repo, "touch -d '1 hour ago' a");
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let cx = at(&arena, &clock);
        let both = async {
            tokio::join!(repository.execute(plan, &cx), over(&hung, cancels, &cx, &clock)).0
        };
        let error = tokio::time::timeout(LONG, both).await.unwrap().unwrap_err();
        let outcome = &error.report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
        tokio::task::spawn_blocking(move || no_process(&hung.word)).await.unwrap();
        shell(&repo, "git config --unset filter.hang.clean");
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");
        tidy(&repo);
    }
}

#[tokio::test]
async fn a_merge_program_that_hangs_ends_at_a_cancellation() {
    let world = World::new();
    let mirror = crate::merge_steps::forked(&world).await;
    let hung = Hung::new(world.dir.path(), 8);
    fs::create_dir_all(world.mirror_path().join("info")).unwrap();
    fs::write(world.mirror_path().join("info/attributes"), "*.txt merge=hang\n").unwrap();
    git(&world.mirror_path(), &["config", "merge.hang.driver", &hung.line()]);
    let cx = world.cx();
    let options = MergeOptions::default().allow_driver("hang");
    let meanwhile = async {
        hung.began().await;
        cx.cancellation().cancel();
    };
    let both = async { tokio::join!(mirror.plan_merge(&cx, "origin/topic", options), meanwhile).0 };
    let error = tokio::time::timeout(LONG, both).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(&error));
    no_process(&hung.word);
}
