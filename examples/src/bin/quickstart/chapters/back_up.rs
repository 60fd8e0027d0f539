//! Back the database up while rows are written, and read the backup back.

use std::time::Duration;

use ops_backup::Depth;
use ops_core::ApproveIf;
use ops_examples::Failure;
use ops_examples::managed_app::SET;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scene::Scene;

pub async fn tell(scene: &mut Scene) -> Result<Value, Failure> {
    let cx = scene.context(ApproveIf::new("quickstart", |_: &_| true));
    let app = &scene.app;

    scene.narrator.say("Back the database up, while rows are written:");
    let enough = CancellationToken::new();
    let write = async {
        let mut rows = 0_u32;
        while !enough.is_cancelled() || rows < 10 {
            rows += 1;
            scene.add_row(&format!("written while the backup ran, {rows}")).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, Failure>(rows)
    };
    let back_up = async {
        let made = app.vault.create(SET, std::slice::from_ref(&app.database), &cx).await;
        enough.cancel();
        Ok(made?)
    };
    let (written, manifest) = tokio::try_join!(write, back_up)?;

    scene.narrator.say("Verify it: every byte is read, checked and decompressed.");
    let found = app.vault.verify(SET, manifest.id, Depth::Full).await?;
    if !found.is_whole() {
        return Err(Failure::unexpected(found.problems.join("; ")));
    }
    let rows = scene.rows().await?.len();
    scene.narrator.say(format!(
        "Backup {} is whole: {} objects, {} bytes. Meanwhile {written} rows were written, {rows} are there.",
        manifest.id, found.objects, found.bytes
    ));
    let (objects, bytes) = (found.objects, found.bytes);
    Ok(json!({"backup": manifest.id, "objects": objects, "bytes": bytes, "rows_written": written}))
}
