//! Builds, migrations, commands between the stages, a preflight and a watch, of release directories
//! and of providers.

use std::path::Path;
use std::time::{Duration, Instant};

use ops_core::host::Requirements;
use ops_deploy::release::ReleaseDirectoryBuilder;
use ops_deploy::{Bake, ErrorKind, Hook, Migration, Preflight, Quiet, Target, When};

use crate::asking::{get, http, v};
use crate::load::Traffic;
use crate::stage::Stage;

/// A command that writes down that it was called.
fn note(dir: &Path, name: &str, more: &str) -> Hook {
    let log = dir.join("log").to_str().unwrap().to_owned();
    let line = |what: &str| format!("echo {what} \"$1\" >> {log}; {more}");
    Hook::new(name, ["sh", "-c", &line(name), "sh", "{version}"]).undo([
        "sh",
        "-c",
        &line(&format!("undo-{name}")),
        "sh",
        "{version}",
    ])
}

fn noted(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn says(stage: &Stage) -> String {
    get(&http(), &stage.url("/health")).await.map_or_else(|e| e, |(_, version, _)| version)
}

#[tokio::test]
async fn commands_run_between_the_stages_and_are_taken_back() {
    let stage = Stage::new().await;
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    let dir = stage.path().to_owned();
    let site = |last: &str| {
        let hooks = [
            (When::BeforeStart, "prepare", ""),
            (When::BeforeSwitch, "warm", ""),
            (When::AfterSwitch, "purge", last),
            (When::AfterCommit, "tell", ""),
        ];
        let add = |builder: ReleaseDirectoryBuilder, (when, name, more): (_, &str, &str)| {
            builder.hook(when, note(&dir, name, more))
        };
        hooks.into_iter().fold(stage.builder(), add).build().unwrap()
    };
    site("").deploy(&stage.cx(), &v("v1")).await.unwrap();
    assert_eq!(noted(&dir), ["prepare v1", "warm v1", "purge v1", "tell v1"]);
    // It fails when it goes forward; taking it back works.
    let once = format!("if mkdir {}/failed; then exit 6; fi", dir.display());
    let error = site(&once).deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert_eq!(says(&stage).await, "v1");
    let back = ["undo-purge v2", "undo-warm v2", "undo-prepare v2"];
    assert_eq!(noted(&dir)[7..], back, "{:?}", noted(&dir));
    // In an emergency only what comes after the commit.
    site("").deploy(&stage.cx(), &v("v2")).await.unwrap();
    let before = noted(&dir).len();
    site("").emergency_rollback(&stage.cx(), None).await.unwrap();
    assert_eq!(noted(&dir)[before..], ["tell v1"]);
}

#[tokio::test]
async fn a_migration_stays_and_one_that_closes_the_way_back_asks_for_a_word() {
    let stage = Stage::new().await;
    for (version, mode) in
        [("v1", "healthy"), ("v2", "healthy"), ("v3", "healthy"), ("sick", "crash")]
    {
        stage.release(version, mode);
    }
    let dir = stage.path().to_owned();
    let with = |sql: &str, bold: bool| {
        let rehearse = Hook::new("rehearse", ["printf", "%s", sql]);
        let migration =
            Migration::new(note(&dir, "schema", "")).rehearsal(rehearse).rehearsal_prints_sql();
        let migration = if bold { migration.allow_incompatible() } else { migration };
        stage.builder().keep(9).migration(migration).build().unwrap()
    };
    let adds = "ALTER TABLE orders ADD COLUMN note text;";
    let fine = with(adds, false);
    fine.deploy(&stage.cx(), &v("v1")).await.unwrap();
    fine.deploy(&stage.cx(), &v("sick")).await.unwrap_err();
    assert_eq!(noted(&dir), ["schema v1", "schema sick"], "it stays");

    let drops = "ALTER TABLE orders DROP COLUMN note; DROP TABLE carts;";
    let error = with(drops, false).deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back");
    let told = format!("{error:?}");
    assert!(told.contains("`DROP TABLE carts` takes something away"), "{told}");
    assert!(told.contains("`ALTER TABLE orders DROP COLUMN note` takes"), "{told}");
    assert_eq!(noted(&dir).len(), 2, "it was only rehearsed");

    let bold = with(drops, true);
    let refused = bold.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    assert!(refused.to_string().contains("needs an approval"), "{refused}");
    let approving = ops_core::Context::builder(dir.join("approving"))
        .environment(ops_core::Environment::Development)
        .approver(ops_core::ApproveIf::new("me", |_: &_| true))
        .build();
    bold.deploy(&approving, &v("v2")).await.unwrap();
    fine.deploy(&stage.cx(), &v("v3")).await.unwrap();
    fine.rollback(&stage.cx(), None).await.unwrap();
    assert_eq!(says(&stage).await, "v2", "back to the one that has the migration");
    for to in [None, Some(v("v1"))] {
        let error = fine.rollback(&stage.cx(), to.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoPrevious);
        assert!(error.to_string().contains("after the migration `schema` of v2"), "{error}");
        let emergency = fine.plan_emergency_rollback(to).await.unwrap_err();
        assert_eq!(emergency.kind(), ErrorKind::NoPrevious, "not in an emergency either");
    }
    let target: &dyn Target = &fine;
    let plan = target.plan_rollback_across_migrations(None).await.unwrap();
    assert_eq!(plan.facts["across migration"], "schema of v2");
    stage.cx().execute(plan, &*target.world()).await.unwrap();
    assert_eq!(says(&stage).await, "v1");
}

#[tokio::test]
async fn a_release_that_is_not_there_is_built() {
    let stage = Stage::new().await;
    let at = stage.path().join("site/releases").to_str().unwrap().to_owned();
    let line = format!("echo compiling; mkdir {at}/.tmp; mv {at}/.tmp {at}/$1");
    let heard = Heard::default();
    let build = Hook::new("make", ["sh", "-ec", &line, "sh", "{version}"])
        .output(heard.clone())
        .deadline(Duration::from_secs(20));
    let site = stage.builder().build_release(build).build().unwrap();
    let plan = site.plan_deploy(&v("v1")).await.unwrap();
    assert!(plan.to_string().contains("build v1, if it is not complete"), "{plan}");
    site.deploy(&stage.cx(), &v("v1")).await.unwrap();
    assert_eq!(says(&stage).await, "v1");
    assert_eq!(*heard.0.lock().unwrap(), ["compiling"]);
    // What the command says is not believed, nor waited for for ever.
    let liar = stage.builder().build_release(Hook::new("liar", ["true"])).build().unwrap();
    let error = liar.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    assert!(format!("{error:?}").contains("does not exist or is incomplete"), "{error:?}");
    let hung = Hook::new("hung", ["sleep", "600"]).deadline(Duration::from_millis(300));
    let hung = stage.builder().build_release(hung).build().unwrap();
    let begun = Instant::now();
    let error = hung.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(says(&stage).await, "v1");
    // A rollback builds nothing.
    let error = site.plan_rollback(Some(v("v2"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteVersion);
}

#[derive(Debug, Clone, Default)]
struct Heard(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl ops_core::process::OutputObserver for Heard {
    fn line(&self, _: ops_core::process::Stream, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

#[tokio::test]
async fn a_preflight_tells_all_its_findings_at_once() {
    let stage = Stage::new().await;
    stage.release("v1", "healthy");
    stage.release("v2", "healthy");
    let machine = Requirements::new().free_disk(stage.path(), u64::MAX).program("no-such-tool");
    let preflight = Preflight::new()
        .machine(machine)
        .certificate(stage.path().join("no.pem"))
        .version("the tool", Hook::new("says", ["echo", "tool 3.1"]), "4");
    stage.site().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let site = stage.builder().preflight(preflight).build().unwrap();
    let error = site.deploy(&stage.cx(), &v("v2")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused");
    let told: Vec<_> = error.reasons().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told.iter().any(|it| it.contains("the tool is 3.1, at least 4 is needed")), "{told:?}");
    assert!(error.reasons().iter().all(|reason| !reason.remedy.is_empty()), "{told:?}");
    stage.site().deploy(&stage.cx(), &v("v2")).await.unwrap();
    let plan = site.plan_emergency_rollback(None).await.unwrap();
    assert!(!plan.to_string().contains("what v1 needs"), "not in an emergency: {plan}");
}

/// A site whose new version is watched under traffic.
async fn watched(stage: &Stage, bake: Bake, version: &str) -> Result<(), String> {
    let site = stage.builder().bake(bake).build().unwrap();
    match site.deploy(&stage.cx(), &v(version)).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let outcome = error.report().unwrap().outcome.name();
            Err(format!("{outcome}: {error:?}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_public_is_answered_brings_a_sick_version_back() {
    let stage = Stage::new().await;
    for mode in ["healthy", "ailing", "sluggish", "hiccup"] {
        stage.release(mode, mode);
    }
    stage.site().deploy(&stage.cx(), &v("healthy")).await.unwrap();
    let bake = Bake::lasting(Duration::from_secs(20))
        .interval(Duration::from_millis(20))
        .hysteresis(3, 2)
        .error_rate(0.1)
        .requests(8);
    let traffic = Traffic::to(&stage.url("/"), 8);

    // Its health is good all the time: only the traffic tells, and long before the watch ends.
    let begun = Instant::now();
    let error = watched(&stage, bake.clone(), "ailing").await.unwrap_err();
    assert!(error.starts_with("rolled_back"), "{error}");
    assert!(error.contains("3 bad windows in a row: "), "{error}");
    assert!(error.contains("requests failed"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(18), "{:?}", begun.elapsed());
    assert_eq!(says(&stage).await, "healthy");

    let fast = bake.clone().latency(Duration::from_millis(200));
    let error = watched(&stage, fast, "sluggish").await.unwrap_err();
    assert!(error.starts_with("rolled_back"), "{error}");
    assert!(error.contains("requests took longer than 200ms"), "{error}");
    assert_eq!(says(&stage).await, "healthy");

    // Some failures between good answers are forgiven.
    let mut short = bake.requests(40);
    short.lasts = Duration::from_secs(1);
    watched(&stage, short, "hiccup").await.unwrap();
    assert_eq!(says(&stage).await, "hiccup");
    let answered = stage.client().status().await.unwrap().answered;
    let hiccup = answered.iter().find(|it| it.upstream.instance.starts_with("hiccup-")).unwrap();
    assert_eq!(hiccup.tally.server_errors, 6, "{hiccup:?}");
    assert!(traffic.asked() > 200, "{}", traffic.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_without_traffic_is_inconclusive() {
    let stage = Stage::new().await;
    stage.release("v1", "healthy");
    stage.release("v2", "ailing");
    let bake = Bake::lasting(Duration::from_millis(400)).interval(Duration::from_millis(20));
    watched(&stage, bake.clone(), "v1").await.unwrap();
    let careful = bake.clone().quiet(Quiet::GoBack);
    let error = watched(&stage, careful, "v2").await.unwrap_err();
    assert!(error.contains("inconclusive: 0 requests came, 20 are a window"), "{error}");
    assert_eq!(says(&stage).await, "v1");
    watched(&stage, bake, "v2").await.unwrap();
    assert_eq!(says(&stage).await, "v2");
}
