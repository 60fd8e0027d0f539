//! The database is damaged, and comes back from the backup: not without an approval.

use std::io::Write as _;

use ops_backup::RestoreOptions;
use ops_core::{ApproveDigest, ApproveNothing, Outcome};
use ops_examples::Failure;
use ops_examples::managed_app::SET;
use serde_json::{Value, json};

use crate::scene::Scene;

pub async fn tell(scene: &mut Scene) -> Result<Value, Failure> {
    let before = scene.rows().await?;
    let vault = &scene.app.vault;
    let backup = vault.latest(SET).await?.ok_or_else(|| Failure::unexpected("no backup"))?;

    let mut file = std::fs::OpenOptions::new().write(true).open(scene.database_path())?;
    file.write_all(&b"this is no database any more. ".repeat(200))?;
    file.sync_all()?;
    if scene.rows().await.is_ok() {
        return Err(Failure::unexpected("the damage did no harm"));
    }
    scene.narrator.say("The database was overwritten in part; the application answers 500.");

    let place = scene.restore_place()?;
    let options = RestoreOptions::default();
    let plan = vault.plan_restore(SET, backup.id, &place, &options).await?;
    scene.narrator.say(format!("Restore backup {}, which the update made:", backup.id));
    scene.narrator.plan(&plan);

    let refused = scene.context(ApproveNothing).execute(plan.clone(), &&place).await;
    let reasons = match refused.as_ref().map_err(|error| error.report().map(|r| &r.outcome)) {
        Err(Some(Outcome::Refused { reasons })) => reasons.clone(),
        _ => return Err(Failure::unexpected("the restore should have been refused")),
    };
    scene.narrator.say(format!("Without an approval it is refused: {}", reasons[0]));

    scene.narrator.say("Approved by its digest:");
    let cx = scene.context(ApproveDigest::new(plan.digest(), "quickstart"));
    let report = cx.execute(plan, &&place).await?;
    let kept = place.old(report.id);

    let after = scene.rows().await?;
    if after != before {
        let (was, is) = (before.len(), after.len());
        return Err(Failure::unexpected(format!("{was} rows were there, {is} came back")));
    }
    if !kept.exists() {
        return Err(Failure::unexpected("what was replaced is gone"));
    }
    scene.narrator.say(format!(
        "All {} rows are back. What was replaced lies at {}.",
        after.len(),
        kept.display()
    ));
    Ok(json!({
        "backup": backup.id,
        "refused": reasons,
        "operation": report.id,
        "outcome": report.outcome,
        "approved_by": report.approved_by,
        "rows": after.len(),
    }))
}
