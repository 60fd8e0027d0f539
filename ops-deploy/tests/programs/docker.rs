//! `ops-deploy-test-docker VERB DIR [VERSION]`: `deploy`, `rollback`, `recover`.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

mod dock;
mod engine;
mod swarmed;
mod verbs;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let host = |dir: &std::path::Path| {
        if dir.join("port").exists() {
            let swarm = swarmed::builder(dir, dock::engine(), "host");
            return Ok(Box::new(swarm.service(swarmed::web(dir)).build()?) as _);
        }
        let host = dock::bare(dir, dock::engine()).service(dock::web(dir)).build()?;
        Ok(Box::new(host) as _)
    };
    verbs::ended(verbs::act(verbs::asked(), host, dock::context).await)
}
