//! The site of the tests: `DIR/site` with the releases, `DIR/state`, `DIR/proxy`, and `DIR/public`
//! with the proxy's address where there is one.

use std::path::Path;
use std::time::Duration;

use ops_core::{Context, Environment};
use ops_deploy::release::ReleaseDirectoryBuilder;
use ops_deploy::{Gate, ProxyClient, ReleaseDirectory, ServiceSpec};

pub fn builder(dir: &Path, service: &Path) -> ReleaseDirectoryBuilder {
    let service = service.to_str().expect("UTF-8");
    let mut spec = ServiceSpec::new([service, "{port}", "{version}"]);
    spec.stop_grace = Duration::from_millis(500);
    let gate = Gate::default()
        .consecutive(2)
        .interval(Duration::from_millis(5))
        .deadline(Duration::from_secs(5));
    let builder = ReleaseDirectory::builder(dir.join("site"), spec).gate(gate).keep(0);
    match std::fs::read_to_string(dir.join("public")) {
        Ok(public) => builder
            .traffic(ProxyClient::new(dir.join("proxy")))
            .public_url(format!("http://{public}").parse().expect("a URL")),
        Err(_) => builder,
    }
}

pub fn context(dir: &Path) -> Context {
    Context::builder(dir.join("state"))
        .environment(Environment::Development)
        .program("deploy-test")
        .undo_budget(Duration::from_secs(30))
        .build()
}
