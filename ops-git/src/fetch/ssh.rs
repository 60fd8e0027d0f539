//! The ssh program, and `git-upload-pack` at its other end.

use std::sync::Arc;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::git::ConnectMode;
use gix::protocol::transport::client::git::blocking_io::Connection;
use ops_core::Class;

use super::child::{Child, Input, Output};
use super::link::Link;
use super::words::words;
use crate::error::{Error, ErrorKind};

/// What ssh says when it does not get in.
const LOCKED_OUT: [&str; 4] = [
    "Permission denied",
    "Host key verification failed",
    "Too many authentication failures",
    "No supported authentication methods",
];

/// What is said when the host is there and the repository is not.
const NOT_THERE: [&str; 4] = [
    "does not appear to be a git repository",
    "Repository not found",
    "not found:",
    "no such repo",
];

/// How a program of the ssh kind takes its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    OpenSsh,
    /// A host and a command, and nothing else.
    Simple,
    Plink,
    TortoisePlink,
}

/// A connection, and the program behind it.
pub(super) struct Ssh {
    pub(super) transport: Connection<Output, Input>,
    child: Child,
}

pub(super) fn connect(
    repo: &gix::Repository,
    url: &gix::Url,
    link: &Arc<Link>,
) -> Result<Ssh, Error> {
    let argv = argv(repo, url)?;
    // Unasked a server speaks the old protocol, whose list of refs cannot be narrowed.
    let env = [("GIT_PROTOCOL", "version=2".to_owned()), ("LC_ALL", "C".to_owned())];
    let (child, output, input) = Child::start(link, &argv, &env)?;
    let path = url.path.clone();
    let nobody = None::<(&str, Option<u16>)>;
    let transport =
        Connection::new(output, input, Protocol::V2, path, nobody, ConnectMode::Process, false);
    Ok(Ssh { transport, child })
}

impl Ssh {
    /// Ends a connection whose work is done.
    pub(super) fn close(mut self) {
        let _ = gix::protocol::indicate_end_of_interaction(&mut self.transport, false);
        drop(self.transport.into_inner());
        self.child.ended_well();
    }

    /// What the program says of the error that gix met.
    pub(super) fn explain(mut self, what: &str) -> Error {
        drop(self.transport.into_inner());
        let said = self.child.complaints();
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let what = if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") };
        if says(&LOCKED_OUT) {
            return Error::new(ErrorKind::Unauthenticated, what).remedy(
                "give this user a key that the host accepts, without a passphrase or in an agent, \
                 and put the host's own key into `known_hosts`: nobody is asked",
            );
        }
        if says(&NOT_THERE) {
            return Error::new(ErrorKind::Remote, what)
                .class_of(Class::Permanent)
                .remedy("check the path in the remote's URL");
        }
        Error::new(ErrorKind::Remote, what)
            .remedy("check that `ssh` reaches the host and that it has `git-upload-pack`")
    }
}

/// The command: what is configured, and what git would add.
fn argv(repo: &gix::Repository, url: &gix::Url) -> Result<Vec<String>, Error> {
    let config = repo.config_snapshot();
    let text = |bytes: gix::bstr::BString| bytes.to_string();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let configured = match variable("GIT_SSH_COMMAND") {
        Some(line) => Some(("GIT_SSH_COMMAND", line)),
        None => config.string("core.sshCommand").map(|line| ("core.sshCommand", text(line))),
    };
    let mut argv = match configured {
        Some((setting, line)) => words(setting, &line)?,
        None => vec![variable("GIT_SSH").unwrap_or_else(|| "ssh".to_owned())],
    };
    let named = variable("GIT_SSH_VARIANT").or_else(|| config.string("ssh.variant").map(text));
    let variant = variant(named.as_deref(), &argv[0])?;
    append(&mut argv, variant, url)?;
    Ok(argv)
}

fn variant(named: Option<&str>, program: &str) -> Result<Variant, Error> {
    let program = program.rsplit('/').next().unwrap_or(program);
    let program = program.strip_suffix(".exe").unwrap_or(program).to_ascii_lowercase();
    match named.unwrap_or("auto") {
        "auto" => Ok(match program.as_str() {
            "plink" | "putty" => Variant::Plink,
            "tortoiseplink" => Variant::TortoisePlink,
            // A script around ssh hands the arguments on.
            _ => Variant::OpenSsh,
        }),
        "ssh" => Ok(Variant::OpenSsh),
        "simple" => Ok(Variant::Simple),
        "plink" | "putty" => Ok(Variant::Plink),
        "tortoiseplink" => Ok(Variant::TortoisePlink),
        other => Err(Error::new(ErrorKind::InvalidInput, format!("`ssh.variant` is `{other}`"))
            .remedy("set it to auto, ssh, simple, plink, putty or tortoiseplink")),
    }
}

fn append(argv: &mut Vec<String>, variant: Variant, url: &gix::Url) -> Result<(), Error> {
    let refused = |what: &str| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("the URL's {what} would be taken for an option"),
        )
        .remedy("give a host and a user that do not begin with `-`")
    };
    let Some(host) = url.host().filter(|host| !host.is_empty()) else {
        return Err(Error::new(ErrorKind::InvalidInput, "the URL names no host")
            .remedy("write it as ssh://user@host/path"));
    };
    if host.starts_with('-') {
        return Err(refused("host"));
    }
    let host = match url.user() {
        Some(user) if user.starts_with('-') => return Err(refused("user")),
        Some(user) => format!("{user}@{host}"),
        None => host.to_owned(),
    };
    let port = url.port.map(|port| port.to_string());
    match (variant, port) {
        (Variant::OpenSsh, port) => {
            // Nobody is there to answer; what is configured stands before this and wins.
            argv.extend(["-o", "BatchMode=yes", "-o", "SendEnv=GIT_PROTOCOL"].map(str::to_owned));
            argv.extend(port.into_iter().flat_map(|port| ["-p".to_owned(), port]));
        }
        (Variant::Plink | Variant::TortoisePlink, port) => {
            argv.push("-batch".to_owned());
            argv.extend(port.into_iter().flat_map(|port| ["-P".to_owned(), port]));
        }
        (Variant::Simple, None) => {}
        (Variant::Simple, Some(port)) => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("`ssh.variant` is `simple`, and the URL has port {port}"),
            )
            .remedy("set `ssh.variant` to what the program is"));
        }
    }
    argv.push(host);
    argv.push(format!("git-upload-pack {}", quoted(&at_home(&url.path.to_string()))));
    Ok(())
}

/// `/~me/x` is in somebody's home.
fn at_home(path: &str) -> String {
    path.strip_prefix('/').filter(|rest| rest.starts_with('~')).unwrap_or(path).to_owned()
}

/// For the shell of the host, as git quotes it there.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''").replace('!', r"'\!'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(program: &str, named: Option<&str>, url: &str) -> Result<String, Error> {
        let mut argv = vec![program.to_owned()];
        let url = gix::url::parse(url).unwrap();
        append(&mut argv, variant(named, program)?, &url)?;
        Ok(argv.join(" "))
    }

    #[test]
    fn arguments_are_those_that_the_program_takes() {
        let ssh = "ssh -o BatchMode=yes -o SendEnv=GIT_PROTOCOL";
        for (program, named, url, expected) in [
            ("ssh", None, "ssh://git@h/a.git", format!("{ssh} git@h git-upload-pack '/a.git'")),
            ("ssh", None, "ssh://h:22022/a", format!("{ssh} -p 22022 h git-upload-pack '/a'")),
            ("ssh", None, "git@h:a.git", format!("{ssh} git@h git-upload-pack 'a.git'")),
            ("ssh", None, "ssh://h/~me/a", format!("{ssh} h git-upload-pack '~me/a'")),
            ("ssh", None, "ssh://h/it's", format!("{ssh} h git-upload-pack '/it'\\''s'")),
            ("/x/plink", None, "ssh://h:9/a", "/x/plink -batch -P 9 h git-upload-pack '/a'".into()),
            ("x", Some("simple"), "ssh://h/a", "x h git-upload-pack '/a'".into()),
        ] {
            assert_eq!(line(program, named, url).unwrap(), expected, "{program} {url}");
        }
        for (named, url, says) in [
            (None, "ssh://-oProxyCommand=x/a", "would be taken for an option"),
            (None, "ssh://-l@h/a", "would be taken for an option"),
            (Some("simple"), "ssh://h:9/a", "port 9"),
            (Some("best"), "ssh://h/a", "`best`"),
        ] {
            let error = line("ssh", named, url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
