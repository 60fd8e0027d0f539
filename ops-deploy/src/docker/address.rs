//! Where an engine is, and how it is reached.

use std::fmt;
use std::path::PathBuf;

use ops_core::Refusal;

/// Where an engine is: `unix:///var/run/docker.sock`; `ssh://user@host`, where the program `ssh` with
/// the user's own settings and keys is let in without a question, and runs `docker system dial-stdio`
/// there; or `tcp://host:2376` with the certificates of [`tls`](Self::tls).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAddress {
    host: String,
    pub(super) tls: Option<Tls>,
    dangerous: bool,
    pub(super) ssh: PathBuf,
}

/// The certificates of a connection, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl<S: Into<String>> From<S> for EngineAddress {
    fn from(host: S) -> Self {
        Self { host: host.into(), tls: None, dangerous: false, ssh: "ssh".into() }
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl EngineAddress {
    /// Speaks TLS with an engine at `tcp://host:port`: it must show a certificate of this authority
    /// and no other, and is shown this certificate with its key. They are read anew for each
    /// connection, so that they can be renewed.
    pub fn tls(
        mut self,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let (ca, certificate, key) = (ca.into(), certificate.into(), key.into());
        self.tls = Some(Tls { ca, certificate, key });
        self
    }

    /// Speaks plain TCP with an engine at `tcp://host:port`. Whoever reaches that port owns the
    /// machine: only for one that is behind something that asks who comes, such as a tunnel.
    pub fn dangerous_plain(mut self) -> Self {
        self.dangerous = true;
        self
    }

    /// Runs this program in place of `ssh`, with the same arguments, for an engine at `ssh://`.
    pub fn ssh_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.ssh = program.into();
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.host
    }

    /// Whether its files and ports are those of this machine.
    pub(super) fn is_local(&self) -> bool {
        self.host.starts_with("unix://")
    }

    /// The certificates with which it is spoken to.
    pub(super) fn certificates(&self) -> Vec<PathBuf> {
        let files = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.certificate]);
        files.cloned().collect()
    }

    /// Host and port behind the scheme.
    pub(super) fn authority(&self) -> &str {
        let rest = self.host.split_once("://").map_or(self.host.as_str(), |(_, rest)| rest);
        rest.trim_end_matches('/')
    }

    pub(super) fn scheme(&self) -> Scheme {
        match self.host.split_once("://").map(|(scheme, _)| scheme) {
            Some("unix") => Scheme::Unix,
            Some("ssh") => Scheme::Ssh,
            Some("tcp" | "http" | "https") => Scheme::Tcp,
            _ => Scheme::Unknown,
        }
    }

    /// Every reason why it cannot be used.
    pub(super) fn check(&self) -> Vec<Refusal> {
        let host = &self.host;
        let mut refusals = Vec::new();
        let mut refuse = |why: String, remedy: &str| refusals.push(Refusal::new(why, remedy));
        let authority = self.authority();
        // What begins with a dash would be an option of the program `ssh`.
        let nowhere = authority.is_empty() || authority.starts_with('-');
        match self.scheme() {
            Scheme::Unix if authority.starts_with('/') && !nowhere => {}
            Scheme::Ssh if !nowhere => {}
            Scheme::Tcp if !nowhere => {
                let port =
                    authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                if port.is_none() {
                    refuse(format!("the engine's address `{host}` has no port"), "2376 is usual");
                }
                if self.tls.is_none() && (!self.dangerous || host.starts_with("https:")) {
                    refuse(
                        format!("the engine `{host}` would be spoken to without TLS"),
                        "give its certificates by `tls`, or take ssh://; say `dangerous_plain` \
                         where something else asks who comes",
                    );
                }
            }
            _ => refuse(
                format!("`{host}` is no engine's address"),
                "give unix:///path/to/docker.sock, ssh://user@host, or tcp://host:port with TLS",
            ),
        }
        if let Some(tls) = &self.tls {
            if self.scheme() != Scheme::Tcp {
                refuse(
                    format!("the engine `{host}` speaks no TLS of its own"),
                    "leave the certificates out, or give tcp://host:port",
                );
            }
            for file in [&tls.ca, &tls.certificate, &tls.key] {
                if !file.is_file() {
                    refuse(
                        format!("the certificate or key `{}` is no file", file.display()),
                        "write it there",
                    );
                }
            }
        }
        refusals
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Unix,
    Tcp,
    Ssh,
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_or_trusted_is_refused() {
        let fine = [
            EngineAddress::from("unix:///var/run/docker.sock"),
            "ssh://ops@shop.example:2222".into(),
            EngineAddress::from("tcp://127.0.0.1:2375").dangerous_plain(),
            EngineAddress::from("tcp://shop:2376").tls("/proc/stat", "/proc/stat", "/proc/stat"),
        ];
        for address in fine {
            assert!(address.check().is_empty(), "{:?}", address.check());
        }
        for (address, reasons) in [
            (EngineAddress::from("docker.sock"), 1),
            ("unix://docker.sock".into(), 1),
            ("ssh://-oProxyCommand=evil".into(), 1),
            ("tcp://shop:2375".into(), 1),
            ("tcp://shop".into(), 2),
            (EngineAddress::from("https://shop:2376").dangerous_plain(), 1),
            (EngineAddress::from("unix:///d.sock").tls("/no", "/proc/stat", "/no"), 3),
        ] {
            assert_eq!(address.check().len(), reasons, "{address}: {:?}", address.check());
        }
    }
}
