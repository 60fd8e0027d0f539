//! The application of the Docker tests: `DIR/app` with its name, `DIR/host` with its history,
//! `DIR/state`, `DIR/proxy`, and `DIR/public` with the proxy's address where there is one. A Swarm's
//! has `DIR/port`, at which its service `web` answers.

use std::path::Path;
use std::time::Duration;

use ops_core::{Context, Environment};
use ops_deploy::docker::{DockerHostBuilder, SwarmBuilder};
use ops_deploy::{ContainerSpec, DockerHost, Gate, ProxyClient, Swarm, SwarmService};

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

/// The application as services of a Swarm, with the history in this folder.
pub fn swarm(dir: &Path, engine: String, folder: &str) -> SwarmBuilder {
    let folder = dir.join(folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let gate = Gate::default()
        .consecutive(2)
        .interval(Duration::from_millis(20))
        .deadline(Duration::from_secs(10));
    Swarm::builder(application(dir), engine, folder)
        .gate(gate)
        .converge_within(Duration::from_secs(15))
        .settle(Duration::from_millis(500))
}

pub fn swarm_web(dir: &Path) -> SwarmService {
    let port = std::fs::read_to_string(dir.join("port")).expect("a port");
    let name = application(dir);
    SwarmService::new(format!("{name}_web"), format!("{name}/web"))
        .public_url(format!("http://127.0.0.1:{port}").parse().expect("a URL"))
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
