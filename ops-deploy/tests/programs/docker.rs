//! `ops-deploy-test-docker VERB DIR [VERSION]`: `deploy`, `rollback`, `recover`.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

mod dock;
mod engine;
mod verbs;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let host = |dir: &std::path::Path| {
        if dir.join("port").exists() {
            let swarm = dock::swarm(dir, dock::engine(), "host");
            return Ok(Box::new(swarm.service(dock::swarm_web(dir)).build()?) as _);
        }
        let host = dock::bare(dir, dock::engine()).service(dock::web(dir)).build()?;
        Ok(Box::new(host) as _)
    };
    verbs::ended(verbs::act(verbs::asked(), host, dock::context).await)
}
