//! The application of the Docker tests: `DIR/app` with its name, `DIR/host` with its history,
//! `DIR/state`, `DIR/proxy`, and `DIR/public` with the proxy's address where there is one.

use std::path::Path;
use std::time::Duration;

use ops_core::{Context, Environment};
use ops_deploy::docker::DockerHostBuilder;
use ops_deploy::{ContainerSpec, DockerHost, Gate, ProxyClient};

pub fn engine() -> String {
    crate::engine::address()
}

pub fn application(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("app")).expect("the application's name")
}

pub fn web(dir: &Path) -> ContainerSpec {
    let web = ContainerSpec::new("web", format!("{}/web", application(dir)))
        .argv(["/serve", "{port}"])
        .stop_signal("SIGKILL")
        .stop_grace(Duration::from_secs(2));
    match std::fs::read_to_string(dir.join("public")) {
        Ok(public) => web
            .traffic(ProxyClient::new(dir.join("proxy")))
            .public_url(format!("http://{public}").parse().expect("a URL")),
        Err(_) => web,
    }
}

pub fn bare(dir: &Path, engine: String) -> DockerHostBuilder {
    let gate = Gate::default()
        .consecutive(2)
        .interval(Duration::from_millis(5))
        .deadline(Duration::from_secs(5));
    DockerHost::builder(application(dir), engine, dir.join("host")).gate(gate).keep(0)
}

pub fn context(dir: &Path) -> Context {
    Context::builder(dir.join("state"))
        .environment(Environment::Development)
        .program("docker-test")
        .undo_budget(Duration::from_secs(30))
        .build()
}
