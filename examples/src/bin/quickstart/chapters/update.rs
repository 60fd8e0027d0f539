//! Update to the next version as one operation: one plan, one approval, one journal, one way back.

use ops_core::{ApproveDigest, CommitId};
use ops_examples::Failure;
use serde_json::{Value, json};

use crate::scene::Scene;

pub async fn tell(scene: &mut Scene, commit: &CommitId) -> Result<Value, Failure> {
    scene.upstream.publish(commit)?;
    let version = commit.version();

    // Planning fetches and reads. What it answers is what will run: to the step.
    let plan = scene.app.plan_update(&scene.context(ops_core::ApproveNothing)).await?;
    scene.narrator.say("The plan of the whole update:");
    scene.narrator.plan(&plan);

    // Somebody reads it, and approves exactly that.
    let cx = scene.context(ApproveDigest::new(plan.digest(), "quickstart"));
    let users = scene.users().await?;
    scene.narrator.say("Approved by its digest. It runs, while users read the page:");
    let updated = cx.execute(plan, &scene.app.world()).await;
    let seen = scene.ask_users(users).await?;
    let report = updated?;

    let standing = scene.look().await?;
    standing.all_say(version.as_str())?;
    scene.narrator.say(format!("{} ms: {standing}.", report.duration_ms));
    Ok(json!({
        "version": version,
        "operation": report.id,
        "outcome": report.outcome,
        "approved_by": report.approved_by,
        "users": seen,
        "standing": standing,
    }))
}
