//! The program that updates is killed in the middle; the next one that comes puts things right.

use std::os::unix::process::ExitStatusExt as _;

use ops_core::{ApproveNothing, Outcome, recover};
use ops_examples::Failure;
use serde_json::{Value, json};

use crate::companion::Companion;
use crate::scene::Scene;
use crate::versions::Versions;

pub async fn tell(scene: &mut Scene, versions: &Versions) -> Result<Value, Failure> {
    scene.upstream.publish(&versions.mended)?;
    let before = versions.second.version();
    let dir = scene.place.dir.to_str().ok_or_else(|| Failure::usage("a path is not UTF-8"))?;

    let users = scene.users().await?;
    let mut updater = Companion::start("doomed-update", &[dir, scene.place.public.as_str()])?;
    let done = updater.line().await?;
    scene.narrator.say(format!("Another process updates. It has just done this: {done}"));
    let status = updater.kill().await?;
    if status.signal() != Some(9) {
        return Err(Failure::unexpected(format!("the updater was not killed: {status}")));
    }
    let between = scene.look().await?;
    scene.narrator.say(format!("SIGKILL. Now {between}."));
    if between.all_say(before.as_str()).is_ok() {
        return Err(Failure::unexpected("the kill came too early to show anything"));
    }

    // Whoever starts calls it. It reads the journal, and needs no approval: going back was part of
    // what was approved.
    scene.narrator.say("Recover:");
    let recovery = recover(&scene.app.world(), &scene.context(ApproveNothing)).await?;
    let seen = scene.ask_users(users).await?;
    let [report] = recovery.reports.as_slice() else {
        let found = recovery.reports.len();
        return Err(Failure::unexpected(format!("{found} operations were recovered, not one")));
    };
    if !matches!(report.outcome, Outcome::RolledBack { .. }) || !report.recovered {
        return Err(Failure::unexpected(format!("recovered to {}", report.outcome.name())));
    }
    let after = scene.look().await?;
    after.all_say(before.as_str())?;
    scene.narrator.say(format!("After it {after}."));
    Ok(json!({
        "version": versions.mended.version(),
        "operation": report.id,
        "outcome": report.outcome,
        "between": between,
        "standing": after,
        "users": seen,
    }))
}
