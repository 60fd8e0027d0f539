//! The next version is broken: the gate stops it, everything goes back, somebody is told.

use ops_core::{ApproveDigest, Outcome};
use ops_examples::Failure;
use serde_json::{Value, json};

use crate::scene::Scene;
use crate::versions::Versions;

pub async fn tell(scene: &mut Scene, versions: &Versions) -> Result<Value, Failure> {
    scene.upstream.publish(&versions.broken)?;
    let (before, broken) = (versions.second.version(), versions.broken.version());

    let plan = scene.app.plan_update(&scene.context(ops_core::ApproveNothing)).await?;
    let cx = scene.context(ApproveDigest::new(plan.digest(), "quickstart"));
    let users = scene.users().await?;
    scene.narrator.say(format!("{broken} starts, but does not work. Update to it all the same:"));
    let ended = cx.execute(plan, &scene.app.world()).await;
    let seen = scene.ask_users(users).await?;
    let Err(error) = ended else {
        return Err(Failure::unexpected("the broken version was let through"));
    };
    let report = error.report().cloned();
    let Some((report, cause)) = report.and_then(|report| match report.outcome.clone() {
        Outcome::RolledBack { cause, .. } => Some((report, cause)),
        _ => None,
    }) else {
        return Err(error.into());
    };
    scene.narrator.say(format!("Rolled back: {cause}"));

    // The mirror's branch, too.
    let standing = scene.look().await?;
    standing.all_say(before.as_str())?;
    if scene.app.site.release_path(&broken).exists() {
        return Err(Failure::unexpected("the files of the broken version are still there"));
    }
    scene.narrator.say(format!("After it {standing}."));

    let alert = scene.chat.line().await?;
    let alert: Value = serde_json::from_str(&alert)?;
    scene
        .narrator
        .say(format!("The chat got an alert: {}", alert["title"].as_str().unwrap_or("?")));
    if !alert.to_string().contains(&report.id.to_string()) {
        return Err(Failure::unexpected(format!("the alert is another one: {alert}")));
    }
    Ok(json!({
        "version": broken,
        "operation": report.id,
        "outcome": report.outcome,
        "users": seen,
        "standing": standing,
        "alert": alert,
    }))
}
