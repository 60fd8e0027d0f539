//! Proxies as processes of their own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PROGRAM;
use crate::{Failure, own_program, peers};

/// Linux tells the work of processes in hundredths of a second on every machine.
const TICKS: u64 = 100;

/// A proxy that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Peer {
    pub address: SocketAddr,
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx ends its workers when it is asked to end.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begun.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Peer {
    pub(super) fn ours(folder: &Path, service: SocketAddr) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let mut command = own_program::ours(PROGRAM, [folder])?;
        command.arg(service.to_string());
        let mut peer = Self { address: service, child: spawn(&mut command)? };
        let said = folder.join("address");
        let heard = || Some(std::fs::read_to_string(&said).ok()?.parse().ok());
        peer.address = until(|| heard().flatten())?;
        peer.listening()
    }

    pub(super) fn nginx(folder: &Path, service: SocketAddr) -> Result<Self, Failure> {
        let (address, at) = (free_address()?, folder.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .concat();
        let config = format!(
            "worker_processes auto;\ndaemon off;\npid {at}/pid;\nerror_log {at}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log off;\n{temporary}\
             upstream service {{ server {service}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{\nlisten {address};\nkeepalive_requests 100000000;\n\
             location / {{\nproxy_pass http://service;\nproxy_http_version 1.1;\n\
             proxy_set_header Connection \"\";\nproxy_set_header Host $http_host;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}}\n}}\n}}\n"
        );
        Self::configured("nginx", &["-c"], folder, &config, address)
    }

    pub(super) fn haproxy(folder: &Path, service: SocketAddr) -> Result<Self, Failure> {
        let address = free_address()?;
        let config = format!(
            "global\n maxconn 4096\ndefaults\n mode http\n timeout connect 5s\n timeout client 75s\n \
             timeout server 60s\n option forwardfor\n http-reuse always\nfrontend public\n \
             bind {address}\n default_backend service\nbackend service\n server one {service}\n"
        );
        Self::configured("haproxy", &["-db", "-f"], folder, &config, address)
    }

    fn configured(
        name: &str,
        options: &[&str],
        folder: &Path,
        config: &str,
        address: SocketAddr,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("config");
        std::fs::write(&path, config)?;
        let mut command = Command::new(peers::find(name).ok_or("it is not installed")?);
        let child = spawn(command.args(options).arg(&path))?;
        Self { address, child }.listening()
    }

    fn listening(self) -> Result<Self, Failure> {
        until(|| TcpStream::connect(self.address).ok())?;
        Ok(self)
    }

    /// What processors did so far for it and its children, to a hundredth of a second.
    pub(super) fn processors(&self) -> Result<Duration, Failure> {
        let own = self.child.id();
        let mut ticks = 0;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            // One that has ended meanwhile is none of ours.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<_> = fields.split(' ').collect();
            let number = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok());
            if pid == own || number(1) == Some(u64::from(own)) {
                ticks += number(11).unwrap_or_default() + number(12).unwrap_or_default();
            }
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }
}

fn spawn(command: &mut Command) -> Result<Child, Failure> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// Waits until something is there, for at most ten seconds.
fn until<T>(mut there: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match there() {
            Some(found) => return Ok(found),
            None if begun.elapsed() > Duration::from_secs(10) => {
                return Err("a proxy does not listen".into());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
