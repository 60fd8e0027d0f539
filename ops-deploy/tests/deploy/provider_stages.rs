//! What happens around a provider's tool: commands, migrations, a watch; and what is not known.

use std::time::Duration;

use ops_core::probe::{FnProbe, Health};
use ops_core::{ApproveIf, Context, Environment};
use ops_deploy::{Bake, Error, ErrorKind, Hook, Migration, Target, When};

use crate::provider::Cloud;
use crate::stage::v;

/// A command that writes down that it was called, where the tool does; and then does more.
fn note(cloud: &Cloud, name: &str, more: &str) -> Hook {
    let calls = cloud.path("calls").display().to_string();
    let line = |what: &str, more: &str| format!("echo {what} \"$1\" >> {calls}; {more}");
    let undo = line(&format!("undo-{name}"), "");
    Hook::new(name, ["sh", "-c", &line(name, more), "sh", "{version}"]).undo([
        "sh",
        "-c",
        &undo,
        "sh",
        "{version}",
    ])
}

fn outcome(error: &Error) -> &'static str {
    error.report().expect("a report").outcome.name()
}

#[tokio::test]
async fn commands_run_between_the_stages_of_a_tool_and_a_watch_takes_all_of_it_back() {
    let cloud = Cloud::new().await;
    let sick = cloud.path("sick");
    let falls_sick = format!("if [ \"$1\" = v2 ]; then touch {}; fi", sick.display());
    let guard = {
        let sick = sick.clone();
        move || {
            let sick = sick.clone();
            FnProbe::new("orders", move || {
                let is_sick = sick.exists();
                async move { if is_sick { Health::unhealthy("no orders") } else { Health::Healthy } }
            })
        }
    };
    let bake = Bake::lasting(Duration::from_secs(1))
        .interval(Duration::from_millis(50))
        .hysteresis(2, 1)
        .latency(Duration::from_secs(5));
    let site = cloud
        .builder()
        .hook(When::BeforeStart, note(&cloud, "prepare", ""))
        .migration(Migration::new(note(&cloud, "schema", "")))
        .hook(When::BeforeSwitch, note(&cloud, "warm", ""))
        .hook(When::AfterSwitch, note(&cloud, "purge", &falls_sick))
        .bake(bake)
        .hook(When::AfterCommit, note(&cloud, "tell", ""))
        .guard(guard())
        .build()
        .unwrap();
    let cx = cloud.cx();
    let plan = site.plan_deploy(&v("v1")).await.unwrap().to_string();
    assert!(plan.contains("watch v1 for a while"), "{plan}");
    site.deploy(&cx, &v("v1")).await.unwrap();
    let all = ["prepare v1", "schema v1", "warm v1", "publish v1", "purge v1", "tell v1"];
    assert_eq!(cloud.calls(), all);

    let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
    assert_eq!(outcome(&error), "rolled_back", "{error:?}");
    let told = format!("{error:?}");
    assert!(told.contains("v2 did not do well under traffic: 2 bad rounds in a row"), "{told}");
    let there = ["prepare v2", "schema v2", "warm v2", "publish v2", "purge v2"];
    let back = ["undo-purge v2", "promote v1", "undo-warm v2", "undo-prepare v2"];
    assert_eq!(cloud.calls()[all.len()..], [&there[..], &back].concat(), "the migration stays");
    assert_eq!(cloud.live(), "v1");

    // A rollback runs them too, but for the migration.
    std::fs::remove_file(sick).unwrap();
    let good = cloud
        .builder()
        .hook(When::BeforeStart, note(&cloud, "prepare", ""))
        .migration(Migration::new(note(&cloud, "schema", "")))
        .hook(When::AfterCommit, note(&cloud, "tell", ""))
        .build()
        .unwrap();
    good.deploy(&cx, &v("v3")).await.unwrap();
    let before = cloud.calls().len();
    good.rollback(&cx, None).await.unwrap();
    assert_eq!(cloud.calls()[before..], ["prepare v1", "promote v1", "tell v1"]);
}

/// A migration whose rehearsal says that the old version could not run afterwards.
fn closing(cloud: &Cloud) -> Migration {
    let calls = cloud.path("calls").display().to_string();
    let line = format!("echo schema \"$1\" >> {calls}");
    let run = Hook::new("schema", ["sh", "-c", &line, "sh", "{version}"]);
    Migration::new(run).rehearsal(Hook::new("rehearse", ["sh", "-c", "exit 3"]))
}

/// A context in which somebody agrees to what destroys.
fn approving(cloud: &Cloud) -> Context {
    Context::builder(cloud.path("state"))
        .environment(Environment::Development)
        .undo_budget(Duration::from_secs(4))
        .approver(ApproveIf::new("me", |_: &_| true))
        .build()
}

#[tokio::test]
async fn a_rollback_across_a_migration_of_a_tool_asks_for_an_explicit_word() {
    let cloud = Cloud::new().await;
    let plain = cloud.provider();
    plain.deploy(&cloud.cx(), &v("v1")).await.unwrap();
    let strict = cloud.builder().migration(closing(&cloud)).build().unwrap();
    let error = strict.deploy(&cloud.cx(), &v("v2")).await.unwrap_err();
    assert_eq!(outcome(&error), "rolled_back", "{error:?}");
    assert_eq!(cloud.calls(), ["publish v1"], "it was only rehearsed");

    let bold = closing(&cloud).allow_incompatible();
    let bold = cloud.builder().migration(bold).build().unwrap();
    bold.deploy(&approving(&cloud), &v("v2")).await.unwrap();
    for to in [None, Some(v("v1"))] {
        let error = plain.rollback(&cloud.cx(), to.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoPrevious, "{error:?}");
        assert!(error.to_string().contains("after the migration `schema` of v2"), "{error}");
        assert!(plain.plan_emergency_rollback(to).await.is_err(), "not in an emergency either");
    }
    assert_eq!(cloud.live(), "v2");
    let target: &dyn Target = &plain;
    let plan = target.plan_rollback_across_migrations(None).await.unwrap();
    assert_eq!(plan.facts["across migration"], "schema of v2");
    cloud.cx().execute(plan, &*target.world()).await.unwrap();
    assert_eq!(cloud.live(), "v1");
}

#[tokio::test]
async fn a_migration_that_closed_the_way_back_is_not_said_to_be_undone() {
    let cloud = Cloud::new().await;
    cloud.provider().deploy(&cloud.cx(), &v("v1")).await.unwrap();
    cloud.mode("liar");
    let bold = closing(&cloud).allow_incompatible();
    let site = cloud.builder().migration(bold).build().unwrap();
    let cx = approving(&cloud);
    let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
    assert_eq!(outcome(&error), "needs_person", "{error:?}");
    let told = format!("{error:?}");
    assert!(told.contains("the old version was said not to run after it"), "{told}");
    assert!(told.contains("take the migration back by hand"), "{told}");
    assert_eq!(cloud.live(), "v1");

    // One that was never run is nothing to undo, and one that can be taken back is.
    let cloud = Cloud::new().await;
    cloud.provider().deploy(&cloud.cx(), &v("v1")).await.unwrap();
    let fails = Hook::new("no", ["false"]);
    let bold = closing(&cloud).allow_incompatible();
    let site = cloud.builder().hook(When::BeforeStart, fails).migration(bold).build().unwrap();
    let error = site.deploy(&approving(&cloud), &v("v2")).await.unwrap_err();
    assert_eq!(outcome(&error), "rolled_back", "{error:?}");

    cloud.mode("liar");
    let rehearsal = Hook::new("rehearse", ["sh", "-c", "exit 3"]);
    let both = Migration::new(note(&cloud, "schema", "")).rehearsal(rehearsal);
    let site = cloud.builder().migration(both.allow_incompatible()).build().unwrap();
    let error = site.deploy(&approving(&cloud), &v("v2")).await.unwrap_err();
    assert_eq!(outcome(&error), "rolled_back", "{error:?}");
    assert_eq!(cloud.calls().last().unwrap(), "undo-schema v2");
}

/// What never lets a version pass.
fn never() -> FnProbe {
    FnProbe::new("never", || async { Health::unhealthy("not today") })
}

#[tokio::test]
async fn no_word_of_the_public_is_no_word_that_a_version_is_out() {
    let cloud = Cloud::new().await;
    let (live, deaf) = (cloud.path("live"), cloud.path("deaf"));
    let line = format!("echo > {}; touch {} # {{version}}", live.display(), deaf.display());
    let gate = ops_deploy::Gate::default()
        .consecutive(2)
        .interval(Duration::from_millis(20))
        .timeout(Duration::from_millis(500))
        .deadline(Duration::from_secs(2));
    let site = cloud.builder().gate(gate).guard(never()).remove(["sh", "-c", &line]);
    let site = site.build().unwrap();
    let error = site.deploy(&cloud.cx(), &v("v1")).await.unwrap_err();
    assert_eq!(outcome(&error), "needs_person", "{error:?}");
    let told = format!("{error:?}");
    assert!(told.contains("whether v1 is out of service is not known"), "{told}");

    let line = format!("rm -f {}; echo > {} # {{version}}", deaf.display(), live.display());
    let site = cloud.builder().guard(never()).remove(["sh", "-c", &line]).build().unwrap();
    std::fs::remove_file(&deaf).unwrap();
    let recovery = ops_core::recover(&*site.world(), &cloud.cx()).await.unwrap();
    assert_eq!(recovery.reports[0].outcome.name(), "rolled_back", "{recovery:?}");
}

#[tokio::test]
async fn a_first_tool_that_was_ended_from_outside_is_for_a_person_to_see() {
    let cloud = Cloud::new().await;
    cloud.mode("hangs");
    let site = cloud.builder().command_deadline(Duration::from_millis(300)).build().unwrap();
    let error = site.deploy(&cloud.cx(), &v("v1")).await.unwrap_err();
    assert_eq!(outcome(&error), "needs_person", "{error:?}");
    assert!(format!("{error:?}").contains("v1 may still come into service"), "{error:?}");
    // A person has looked.
    let recovery = ops_core::recover(&*site.world(), &cloud.cx()).await.unwrap();
    assert_eq!(recovery.reports[0].outcome.name(), "rolled_back", "{recovery:?}");
}

#[tokio::test]
async fn a_list_that_was_cut_is_not_taken_for_whole() {
    let cloud = Cloud::new().await;
    let line = "i=0; while [ $i -lt 200000 ]; do echo v0123456789-$i-abcdefghijklmnopqrstuvwxyz; i=$((i+1)); done";
    let site = cloud.builder().versions(["sh", "-c", line]).build().unwrap();
    let error = site.plan_deploy(&v("v1")).await.unwrap_err();
    assert!(error.to_string().contains("lists too much"), "{error}");
}
