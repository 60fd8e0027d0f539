//! What the repository's configuration says of http: `http.*`, and `http.<url>.*` where it fits.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy, redirect};
use url::Url;

use crate::error::{Error, ErrorKind};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(super) struct Settings {
    /// `http.extraHeader`, which may hold a secret.
    pub(super) headers: Vec<String>,
    proxy: Option<String>,
    ca_info: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    trusts_anybody: bool,
    pub(super) user_agent: Option<String>,
    pub(super) never_follows: bool,
}

/// Without the headers and the proxy, which may hold secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("headers", &self.headers.len())
            .field("ca_info", &self.ca_info)
            .field("trusts_anybody", &self.trusts_anybody)
            .finish_non_exhaustive()
    }
}

impl Settings {
    pub(super) fn of(config: &gix::config::File, remote: &str, url: &Url) -> Result<Self, Error> {
        let mut found = Self::default();
        // How well the section fits that a key was last read from.
        let mut fits = BTreeMap::<String, usize>::new();
        for section in config.sections_by_name("http").into_iter().flatten() {
            let subsection = section.header().subsection_name().map(ToString::to_string);
            let Some(fit) = subsection.as_deref().map_or(Some(0), |base| fit(base, url)) else {
                continue;
            };
            let mut names: Vec<String> =
                section.value_names().map(|name| name.to_ascii_lowercase()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let best = fits.entry(name.clone()).or_default();
                if fit < *best {
                    continue;
                }
                *best = fit;
                for value in section.values(&name) {
                    found.take(&name, &value.to_string())?;
                }
            }
        }
        if let Some(proxy) = config.string(format!("remote.{remote}.proxy").as_str()) {
            found.proxy = Some(proxy.to_string());
        }
        Ok(found)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let text = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            "extraheader" if value.is_empty() => self.headers.clear(),
            "extraheader" => self.headers.push(value.to_owned()),
            "proxy" => self.proxy = Some(value.to_owned()),
            "sslcainfo" => self.ca_info = text().map(PathBuf::from),
            "sslcert" => self.certificate = text().map(PathBuf::from),
            "sslkey" => self.key = text().map(PathBuf::from),
            "useragent" => self.user_agent = text(),
            "sslverify" => self.trusts_anybody = !truth("http.sslVerify", value)?,
            "followredirects" if value != "initial" => {
                self.never_follows = !truth("http.followRedirects", value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The configured headers, marked as secrets.
    pub(super) fn header_map(&self) -> Result<HeaderMap, Error> {
        let mut map = HeaderMap::new();
        for line in &self.headers {
            // The line may be a secret, so the error does not show it.
            let wrong = || {
                Error::new(ErrorKind::InvalidInput, "`http.extraHeader` is no header")
                    .remedy("write it as `Name: value`")
            };
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::from_str(name.trim()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        Ok(map)
    }

    /// A client as configured. It follows no redirection by itself, and has no deadline: whoever
    /// waits has one.
    pub(super) fn client(&self) -> Result<Client, Error> {
        let wrong = |setting: &str, source: reqwest::Error| {
            Error::new(ErrorKind::InvalidInput, format!("`{setting}` cannot be used"))
                .caused_by(source.without_url())
        };
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .tls_danger_accept_invalid_certs(self.trusts_anybody);
        match self.proxy.as_deref() {
            None => {}
            Some("") => client = client.no_proxy(),
            Some(proxy) => {
                let scheme = if proxy.contains("://") { "" } else { "http://" };
                let proxy = format!("{scheme}{proxy}");
                let proxy = Proxy::all(proxy).map_err(|source| wrong("http.proxy", source))?;
                client = client.proxy(proxy.no_proxy(NoProxy::from_env()));
            }
        }
        if let Some(path) = &self.ca_info {
            let certificates = Certificate::from_pem_bundle(&read(path)?)
                .map_err(|source| wrong("http.sslCAInfo", source))?;
            client = client.tls_certs_only(certificates);
        }
        if let Some(path) = &self.certificate {
            let mut pem = read(path)?;
            if let Some(key) = &self.key {
                pem.push(b'\n');
                pem.extend(read(key)?);
            }
            let identity =
                Identity::from_pem(&pem).map_err(|source| wrong("http.sslCert", source))?;
            client = client.identity(identity);
        }
        client.build().map_err(|source| wrong("http", source))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::io("read", path, source))
}

fn truth(name: &str, value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        // A key without a value is true, but gix hands out an empty one for both.
        "true" | "yes" | "on" | "1" | "" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Error::new(ErrorKind::InvalidInput, format!("`{name}` is `{value}`"))
            .remedy("set it to true or false")),
    }
}

/// How well a subsection's URL fits; `None` if it does not.
fn fit(base: &str, url: &Url) -> Option<usize> {
    let base = Url::parse(base).ok()?;
    let same = base.scheme() == url.scheme()
        && base.host_str() == url.host_str()
        && base.port_or_known_default() == url.port_or_known_default()
        && (base.username().is_empty() || base.username() == url.username());
    let path = base.path().trim_end_matches('/');
    let rest = url.path().strip_prefix(path)?;
    (same && (rest.is_empty() || rest.starts_with('/'))).then_some(1 + path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, url: &str) -> Result<Settings, Error> {
        let config = gix::config::File::try_from(text).unwrap();
        Settings::of(&config, "origin", &url.parse().unwrap())
    }

    #[test]
    fn what_fits_the_url_best_wins() {
        let text = "[http]\n\textraHeader = A: 1\n\tproxy = p1:3128\n\tuserAgent = x\n\
                    [http \"https://h/team\"]\n\textraHeader = B: 2\n\tproxy = p2:3128\n\
                    [http \"https://h\"]\n\tproxy = p3:3128\n\
                    [http \"http://h\"]\n\tsslVerify = false\n\
                    [http \"https://h/te\"]\n\tsslVerify = false\n";
        let found = settings(text, "https://h/team/a.git").unwrap();
        assert_eq!(found.headers, ["A: 1", "B: 2"]);
        assert_eq!(found.proxy.as_deref(), Some("p2:3128"));
        assert_eq!(found.user_agent.as_deref(), Some("x"));
        assert!(!found.trusts_anybody);
        let other = settings(text, "https://other/a.git").unwrap();
        assert_eq!((other.headers.len(), other.proxy.as_deref()), (1, Some("p1:3128")));
        assert_eq!(found.header_map().unwrap()["b"], "2");

        let none = settings("[http]\n\textraHeader = A: 1\n\textraHeader =\n", "https://h/a");
        assert!(none.unwrap().headers.is_empty(), "an empty one clears the list");
        let own = "[http]\n\tproxy = p\n[remote \"origin\"]\n\tproxy = q\n";
        assert_eq!(settings(own, "https://h/a").unwrap().proxy.as_deref(), Some("q"));
        let error = settings("[http]\n\tsslVerify = perhaps\n", "https://h/a").unwrap_err();
        assert!(error.to_string().contains("`perhaps`"), "{error}");
        let secret = settings("[http]\n\textraHeader = hunter2\n", "https://h/a").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"), "{secret:?}");
        let proxy = settings("[http]\n\tproxy = me:hunter2@p\n", "https://h/a").unwrap();
        assert!(!format!("{proxy:?}").contains("hunter2"), "{proxy:?}");
        let error = secret.header_map().unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
