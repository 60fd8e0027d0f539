//! The composed update (pull, export, backup, deploy) is killed at its places, and so is its
//! recovery: branch, `current`, history, traffic and processes always agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use ops_backup::Depth;
use ops_core::crash::{CrashTest, State};
use ops_core::operations::{self, Which};
use ops_core::{ApproveIf, Context, Environment};
use ops_deploy::service::Liveness;
use ops_deploy::{Detached, ProxyConfig, ReverseProxy, ServiceManager as _, Target as _};
use ops_examples::managed_app::{ManagedApp, SET};
use ops_examples::upstream::Upstream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const GUESTBOOK: &str = env!("CARGO_BIN_EXE_guestbook");
const CRASH_UPDATE: &str = env!("CARGO_BIN_EXE_crash-update");

fn program(verb: &'static str) -> impl Fn(&Path) -> Command {
    move |dir| {
        let mut command = Command::new(CRASH_UPDATE);
        command.arg(dir).arg(verb);
        command
    }
}

fn context(dir: &Path) -> Context {
    Context::builder(dir.join("state"))
        .program("crash-update")
        .environment(Environment::Production)
        .approver(ApproveIf::new("crash test", |_: &_| true))
        .build()
}

async fn open(dir: &Path) -> Result<ManagedApp, String> {
    let public = std::fs::read_to_string(dir.join("public")).unwrap().parse().unwrap();
    let upstream = dir.join("upstream.git");
    ManagedApp::open(dir, &upstream, &[GUESTBOOK], public).await.map_err(|e| e.to_string())
}

/// The old version in service, the new one published: `old` and `new` are its settings.
async fn set_up(dir: &Path, new: &str, end: CancellationToken) -> Result<(), String> {
    let say = |error: &dyn std::error::Error| error.to_string();
    let upstream = Upstream::create(dir.join("upstream.git")).map_err(|e| say(&e))?;
    let page = ("page.html", "version {version}\n{rows}");
    let commit =
        |parent, settings| upstream.commit(parent, "push", &[("app.toml", settings), page]);
    let old = commit(None, "title = \"old\"").map_err(|e| say(&e))?;
    let new = commit(Some(&old), new).map_err(|e| say(&e))?;
    upstream.publish(&old).map_err(|e| say(&e))?;

    let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), dir.join("proxy"));
    let proxy = ReverseProxy::bind(config).await.map_err(|e| say(&e))?;
    std::fs::write(dir.join("public"), format!("http://{}", proxy.address())).unwrap();
    tokio::spawn(proxy.serve(end));

    let (app, cx) = (open(dir).await?, context(dir));
    app.mirror.safe_pull(&cx).await.map_err(|e| say(&e))?;
    let version = old.version();
    let release = app.site.release_path(&version);
    app.mirror.export(&cx, version.as_str(), &release).await.map_err(|e| say(&e))?;
    app.site.deploy(&cx, &version).await.map_err(|e| say(&e))?;
    upstream.publish(&new).map_err(|e| say(&e))?;
    std::fs::write(dir.join("versions"), format!("{version} {}", new.version())).unwrap();
    Ok(())
}

/// Which version everybody agrees on.
async fn agreement(dir: &Path) -> Result<State, String> {
    let versions = std::fs::read_to_string(dir.join("versions")).unwrap();
    let (old, new) = versions.split_once(' ').unwrap();
    let app = open(dir).await?;
    let (open, unreadable) =
        operations::list(&context(dir), Which::Open).map_err(|e| e.to_string())?;
    if !open.is_empty() || !unreadable.is_empty() {
        return Err(format!("journals are open: {open:?} {unreadable:?}"));
    }

    let head = app.mirror.inspect().await.map_err(|e| e.to_string())?.head;
    let branch = head.ok_or("the branch is gone")?.version().to_string();
    let status = app.site.look().await.map_err(|e| e.to_string())?;
    let current = status.current().map_err(|e| e.to_string())?.ok_or("nothing is current")?;
    let serving = status.in_service().ok_or("nothing takes the traffic")?;
    let history = status.history.as_ref().and_then(|history| history.latest());
    let public = std::fs::read_to_string(dir.join("public")).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let health = client.get(format!("{public}/health")).send().await.map_err(|e| e.to_string())?;
    let health: serde_json::Value =
        serde_json::from_str(&health.text().await.map_err(|e| e.to_string())?).unwrap();
    let says = [
        ("the branch", branch.as_str()),
        ("current", current.as_str()),
        ("the instance", serving.version.as_str()),
        ("the history", history.map_or("nothing", |version| version.as_str())),
        ("the public", health["version"].as_str().unwrap_or("nobody")),
    ];
    if says.iter().any(|(_, version)| *version != branch) {
        return Err(format!("{says:?}"));
    }
    let strays = strays(dir, serving.liveness);
    let running: Vec<_> = status.instances.iter().filter(|instance| instance.runs()).collect();
    if running.len() != 1 || !strays.is_empty() {
        return Err(format!("{running:?} run, and the processes {strays:?}"));
    }
    // The backup stays in any case, and whatever is listed is whole.
    for id in app.vault.list(SET).await.map_err(|e| e.to_string())? {
        let found = app.vault.verify(SET, id, Depth::Full).await.map_err(|e| e.to_string())?;
        if !found.is_whole() {
            return Err(format!("backup {id}: {:?}", found.problems));
        }
    }
    let files = dir.join("site/releases").join(new);
    if branch == old {
        if files.exists() {
            return Err("the new version's files stayed".into());
        }
        return Ok(State::Old);
    }
    if branch == new && files.join("page.html").exists() { Ok(State::New) } else { Err(branch) }
}

/// Processes in a release of this site besides the one in service, found without any record.
fn strays(dir: &Path, serving: Liveness) -> BTreeSet<u32> {
    let releases = dir.join("site/releases").canonicalize().unwrap();
    let in_releases = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&releases))
    };
    let known =
        |pid: &u32| matches!(serving, Liveness::Running(Some(process)) if process.pid == *pid);
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| in_releases(pid) && !known(pid)).collect()
}

fn end_all(dir: &Path) {
    let now = CancellationToken::new();
    now.cancel();
    for entry in std::fs::read_dir(dir.join("site/run")).into_iter().flatten().flatten() {
        Detached::new().stop(&entry.path(), Duration::ZERO, &now).unwrap();
    }
}

fn crash_test(new: &'static str) -> CrashTest {
    let runtime = Rc::new(Runtime::new().unwrap());
    let proxy: Rc<RefCell<CancellationToken>> = Rc::default();
    let (setup_runtime, setup_proxy) = (Rc::clone(&runtime), Rc::clone(&proxy));
    CrashTest::new()
        .setup(move |dir| {
            let end = CancellationToken::new();
            *setup_proxy.borrow_mut() = end.clone();
            setup_runtime.block_on(set_up(dir, new, end))
        })
        .operation(program("update"))
        .recovery(program("recover"))
        .check(move |dir| runtime.block_on(agreement(dir)))
        .teardown(move |dir| {
            proxy.borrow().cancel();
            end_all(dir);
        })
}

#[test]
fn an_update_killed_anywhere_leaves_the_old_version_or_the_new() {
    let test = crash_test("title = \"new\"").every(2).recovery_every(37);
    let summary = test.run().unwrap();
    assert!(summary.old > 40 && summary.new > 5, "{summary}");
    // In every crate that takes part, and in the journal between them.
    for places in [
        &["git-branch", "git-export", "git-ref"][..],
        &["copied a database", "after a chunk", "before the manifest", "after the manifest"],
        &["release: ", "service: "],
        &["journal: half a line"],
    ] {
        let hit = summary.places.keys().any(|name| places.iter().any(|p| name.contains(p)));
        assert!(hit, "never killed at one of {places:?}: {:?}", summary.places);
    }
}

#[test]
fn an_update_that_fails_killed_anywhere_leaves_the_old_version() {
    // A title that is no text: the new version ends at its start.
    let test = crash_test("title = 1").operation_may_fail().every(3).recovery_every(29);
    let summary = test.run().unwrap();
    assert!(summary.old > 20 && summary.new == 0, "{summary}");
}
