//! Pull the first version, write its files, bring it into service: three operations.

use ops_core::ApproveIf;
use ops_deploy::Target as _;
use ops_examples::Failure;
use serde_json::{Value, json};

use crate::scene::{Scene, page};
use crate::versions::Versions;

pub async fn tell(scene: &mut Scene, versions: &Versions) -> Result<Value, Failure> {
    scene.upstream.publish(&versions.first)?;
    // A policy may approve, too. The next chapters approve what was read, by its digest.
    let cx = scene.context(ApproveIf::new("quickstart", |_: &_| true));

    scene.narrator.say("Pull the mirror:");
    let pull = scene.app.mirror.safe_pull(&cx).await?;

    let version = versions.first.version();
    let folder = scene.app.site.release_path(&version);
    scene.narrator.say(format!("Write the files of {version}:"));
    scene.app.mirror.export(&cx, version.as_str(), &folder).await?;

    scene.narrator.say("Deploy it:");
    let deploy = scene.app.site.deploy(&cx, &version).await?;

    scene.add_row("the first row").await?;
    scene.look().await?.all_say(version.as_str())?;
    let answer = page(&scene.http, &scene.url("/")).await?;
    if !answer.contains(version.as_str()) || !answer.contains("the first row") {
        return Err(Failure::unexpected(format!("the page is another one: {answer}")));
    }
    scene.narrator.say(format!("{} answers:", scene.place.public));
    answer.lines().for_each(|line| scene.narrator.say(format!("  > {line}")));
    Ok(json!({"version": version, "pull": pull.outcome, "deploy": deploy.outcome}))
}
