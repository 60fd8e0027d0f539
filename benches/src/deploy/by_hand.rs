//! What people do by hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::Served;
use super::engine::{Application, TAGS, docker, free_port, host, run, version};
use crate::Failure;

/// How often a new container is asked whether it is well.
const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the version answers there.
fn await_version(address: SocketAddr, tag: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    while version(address).as_deref() != Some(tag) {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{tag} does not answer on {address}").into());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// `docker-compose up -d`.
pub(super) struct Composed {
    application: Application,
    file: PathBuf,
    address: SocketAddr,
}

impl Composed {
    pub fn new(folder: &Path) -> Result<Self, Failure> {
        let application = Application::new(folder)?;
        let (port, file) = (free_port()?, folder.join("docker-compose.yml"));
        let repository = application.repository();
        // The program hears no SIGTERM, as the first process of its container.
        let text = format!(
            "version: \"3.7\"\nservices:\n  web:\n    image: {repository}:${{TAG}}\n    \
             network_mode: host\n    stop_grace_period: 1s\n    command: [\"/serve\", \"{port}\"]\n"
        );
        std::fs::write(&file, text)?;
        let mut composed = Self { application, file, address: ([127, 0, 0, 1], port).into() };
        composed.bring(0)?;
        Ok(composed)
    }
}

impl Served for Composed {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn bring(&mut self, number: usize) -> Result<(), Failure> {
        let mut compose = Command::new("docker-compose");
        compose.arg("--host").arg(host()).arg("--file").arg(&self.file);
        compose.args(["--project-name", &self.application.0, "up", "-d"]);
        run(compose.env("TAG", TAGS[number]))?;
        await_version(self.address, TAGS[number])
    }
}

/// The new container beside the old one, and nginx before them.
pub(super) struct Scaled {
    application: Application,
    folder: PathBuf,
    address: SocketAddr,
    /// Number and name of what is in service.
    serving: Option<(usize, String)>,
    process: Option<Child>,
}

impl Scaled {
    pub fn new(folder: &Path) -> Result<Self, Failure> {
        let application = Application::new(folder)?;
        let address = ([127, 0, 0, 1], free_port()?).into();
        let folder = folder.to_owned();
        let mut scaled = Self { application, folder, address, serving: None, process: None };
        scaled.bring(0)?;
        Ok(scaled)
    }

    fn nginx(&self, before: &[&str]) -> Command {
        let words: Vec<_> = before.iter().copied().chain(["nginx"]).collect();
        let mut nginx = Command::new(words[0]);
        nginx.args(&words[1..]);
        nginx.arg("-p").arg(&self.folder).arg("-c").arg(self.folder.join("nginx.conf"));
        nginx
    }

    fn point(&mut self, port: u16) -> Result<(), Failure> {
        let folder = self.folder.display();
        let text = format!(
            "daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nworker_processes 1;\n\
             events {{ worker_connections 256; }}\nhttp {{\n  access_log off;\n  upstream web {{ \
             server 127.0.0.1:{port}; keepalive 16; }}\n  server {{\n    listen {};\n    location / \
             {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n  \
             }}\n}}\n",
            self.address,
        );
        std::fs::write(self.folder.join("nginx.conf"), text)?;
        if self.process.is_some() {
            return run(self.nginx(&[]).args(["-s", "reload"])).map(drop);
        }
        // It ends with this program, however that ends.
        self.process = Some(self.nginx(&["setpriv", "--pdeathsig", "TERM"]).spawn()?);
        Ok(())
    }
}

impl Served for Scaled {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn bring(&mut self, number: usize) -> Result<(), Failure> {
        if self.serving.as_ref().is_some_and(|(serving, _)| *serving == number) {
            return Ok(());
        }
        let port = free_port()?;
        let (image, name) =
            (self.application.image(TAGS[number]), format!("{}-{port}", self.application.0));
        let command = ["/serve", &port.to_string()];
        let up = ["run", "-d", "--network", "host", "--name", &name, &image];
        docker(&[&up[..], &command[..]].concat())?;
        await_version(([127, 0, 0, 1], port).into(), TAGS[number])?;
        self.point(port)?;
        await_version(self.address, TAGS[number])?;
        if let Some((_, old)) = self.serving.replace((number, name)) {
            docker(&["stop", "-t", "1", &old])?;
            docker(&["rm", &old])?;
        }
        Ok(())
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        if let Some(mut nginx) = self.process.take() {
            if run(self.nginx(&[]).args(["-s", "stop"])).is_err() {
                let _ = nginx.kill();
            }
            let _ = nginx.wait();
        }
    }
}
