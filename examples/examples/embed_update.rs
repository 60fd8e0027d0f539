//! A service that updates itself from its own repository: ops-git and ops-deploy in one operation.
//!
//! `cargo run --example embed_update -- https://example.org/shop.git /srv/shop`
//! with an `ops-proxy --state-dir /srv/shop/proxy` beside it.

use std::path::PathBuf;

use ops_core::{Context, Environment};
use ops_deploy::{ProxyClient, ReleaseDirectory, ServiceSpec, Target as _};
use ops_git::{GitRepository, PullOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(root)) = (args.next(), args.next().map(PathBuf::from)) else {
        return Err("give the repository's URL and the folder of the site".into());
    };
    // Staging: changes need no approval there, what destroys does everywhere.
    let cx = Context::builder(root.join("state")).environment(Environment::Staging).build();
    let mirror = GitRepository::mirror(&url, root.join("mirror.git"))?;
    let service = ServiceSpec::new(["bin/shop", "--port", "{port}"]).env("VERSION", "{version}");
    let site = ReleaseDirectory::builder(&root, service)
        .traffic(ProxyClient::new(root.join("proxy")))
        .build()?;

    // Whatever an earlier run left half done is put right first.
    let _ = ops_core::recover(&(&mirror, &site), &cx).await?;

    let pull = mirror.plan_pull(&cx, PullOptions::default()).await?;
    let commit = pull.facts["sha_after"].clone();
    let version = mirror.resolve(&commit).await?.version();
    let export = mirror.plan_export(&commit, site.release_path(&version)).await?;
    let deploy = site.plan_deploy(&version).await?;
    let report = cx.execute(pull.then(export).then(deploy), &(&mirror, &site)).await?;
    tracing::info!(%version, "{}", report.outcome.name());
    Ok(())
}
