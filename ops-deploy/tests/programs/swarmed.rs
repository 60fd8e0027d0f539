//! The application of the Swarm tests: as that of the others, with `DIR/port`, at which its service
//! `web` answers.

use std::path::Path;
use std::time::Duration;

use ops_deploy::docker::SwarmBuilder;
use ops_deploy::{Gate, Swarm, SwarmService};

/// The application as services of a Swarm, with the history in this folder.
pub fn builder(dir: &Path, engine: String, folder: &str) -> SwarmBuilder {
    let folder = dir.join(folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let gate = Gate::default()
        .consecutive(2)
        .interval(Duration::from_millis(20))
        .deadline(Duration::from_secs(10));
    Swarm::builder(crate::dock::application(dir), engine, folder)
        .gate(gate)
        .converge_within(Duration::from_secs(15))
        .settle(Duration::from_millis(500))
}

pub fn web(dir: &Path) -> SwarmService {
    let port = std::fs::read_to_string(dir.join("port")).expect("a port");
    let name = crate::dock::application(dir);
    SwarmService::new(format!("{name}_web"), format!("{name}/web"))
        .public_url(format!("http://127.0.0.1:{port}").parse().expect("a URL"))
}
