//! What is to be run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::secret::{Redactor, Secret};

/// The variables that a child has from this process unasked; and all that begin with `LC_`.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER"];

/// A program, its arguments and its surroundings. Printed, it shows the arguments quoted for
/// reading, and neither secrets nor variables.
///
/// ```
/// use ops_core::Secret;
/// use ops_core::process::Command;
///
/// let command = Command::new("pg_dump")
///     .args(["--format=custom", "my database"])
///     .secret_env("PGPASSWORD", Secret::new("hunter2"));
/// assert_eq!(command.to_string(), "pg_dump --format=custom 'my database'");
/// ```
#[derive(Clone)]
#[must_use = "a command does nothing until a `Runner` runs it"]
pub struct Command {
    program: OsString,
    args: Vec<Arg>,
    env: BTreeMap<OsString, Value>,
    inherit: BTreeSet<OsString>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) deadline: Duration,
    pub(super) grace: Duration,
    pub(super) stdin: Vec<u8>,
    secret_stdin: Option<Secret>,
    pub(super) output_cap: usize,
    pub(super) kill_remaining: bool,
}

#[derive(Clone)]
enum Arg {
    Plain(OsString),
    Secret { before: String, secret: Secret },
}

#[derive(Clone)]
enum Value {
    Plain(OsString),
    Secret(Secret),
}

impl Command {
    /// Runs this program: a path, or a name that is looked up in the child's `PATH`. A relative
    /// path counts from the child's working folder.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherit: BTreeSet::new(),
            cwd: None,
            deadline: Duration::from_mins(5),
            grace: Duration::from_secs(10),
            stdin: Vec::new(),
            secret_stdin: None,
            output_cap: 1024 * 1024,
            kill_remaining: false,
        }
    }

    /// Adds an argument, which reaches the program as it is.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(Arg::Plain(arg.into()));
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| Arg::Plain(arg.into())));
        self
    }

    /// Adds a secret as an argument. Every user of the machine can read it while the program runs:
    /// prefer [`secret_env`](Self::secret_env) or [`stdin`](Self::stdin).
    pub fn arg_secret(self, secret: Secret) -> Self {
        self.arg_secret_after("", secret)
    }

    /// Adds an argument that ends in a secret: `--password=` and the password. See
    /// [`arg_secret`](Self::arg_secret) for who can read it.
    pub fn arg_secret_after(mut self, before: impl Into<String>, secret: Secret) -> Self {
        self.args.push(Arg::Secret { before: before.into(), secret });
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), Value::Plain(value.into()));
        self
    }

    /// Sets a variable to a secret, which every output is redacted of from then on.
    pub fn secret_env(mut self, name: impl Into<OsString>, secret: Secret) -> Self {
        self.env.insert(name.into(), Value::Secret(secret));
        self
    }

    /// Lets the child have these variables of this process, where they are set, on top of `PATH`,
    /// `HOME`, `LANG`, `LC_*`, `TZ`, `TMPDIR` and `USER`.
    pub fn inherit_env(mut self, names: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.inherit.extend(names.into_iter().map(Into::into));
        self
    }

    /// The working folder. Default: this process'.
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// How long it may run before it is asked to end. Default: 5 min.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long its group may take to end when it is asked to, before it is killed. Default: 10 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// What it reads from its standard input. Default: nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self.secret_stdin = None;
        self
    }

    /// Gives it a secret on its standard input, where nobody else can read it.
    pub fn secret_stdin(mut self, secret: Secret) -> Self {
        self.stdin = secret.expose().into();
        self.secret_stdin = Some(secret);
        self
    }

    /// How many bytes of its standard output are kept, and as many of its standard error: half of
    /// them from the beginning, half from the end. Default: 1 MiB.
    pub fn output_cap(mut self, bytes: usize) -> Self {
        self.output_cap = bytes;
        self
    }

    /// Kills what is left of its process group once the program itself has ended. Default: what it
    /// left running runs on.
    pub fn kill_remaining(mut self) -> Self {
        self.kill_remaining = true;
        self
    }

    /// The program and its arguments as texts; secrets are `[redacted]`.
    pub fn argv(&self) -> Vec<String> {
        let args = self.args.iter().map(|arg| match arg {
            Arg::Plain(arg) => arg.to_string_lossy().into_owned(),
            Arg::Secret { before, secret } => format!("{before}{secret}"),
        });
        std::iter::once(self.program.to_string_lossy().into_owned()).chain(args).collect()
    }

    /// The standard input it is given, a secret one too.
    pub fn stdin_bytes(&self) -> &[u8] {
        &self.stdin
    }

    /// The working folder, if it was set.
    pub fn working_folder(&self) -> Option<&Path> {
        self.cwd.as_deref()
    }

    /// The program, for messages.
    pub(super) fn name(&self) -> String {
        let name = self.program.to_string_lossy();
        Redactor::default().redact(&name)
    }

    /// Makes the secrets of this command known.
    pub(super) fn teach(&self, redactor: &Redactor) {
        if let Some(secret) = &self.secret_stdin {
            redactor.add(secret);
        }
        for arg in &self.args {
            if let Arg::Secret { secret, .. } = arg {
                redactor.add(secret);
            }
        }
        for value in self.env.values() {
            if let Value::Secret(secret) = value {
                redactor.add(secret);
            }
        }
    }

    pub(super) fn real_args(&self) -> impl Iterator<Item = OsString> {
        self.args.iter().map(|arg| match arg {
            Arg::Plain(arg) => arg.clone(),
            Arg::Secret { before, secret } => format!("{before}{}", secret.expose()).into(),
        })
    }

    pub(super) fn program(&self) -> &OsStr {
        &self.program
    }

    /// All that the child's environment holds, given this process' one.
    pub(super) fn real_env(
        &self,
        own: impl Iterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<OsString, OsString> {
        let may = |name: &OsStr| {
            self.inherit.contains(name)
                || INHERITED.iter().any(|inherited| name == *inherited)
                || name.as_encoded_bytes().starts_with(b"LC_")
        };
        let mut env: BTreeMap<_, _> = own.filter(|(name, _)| may(name)).collect();
        for (name, value) in &self.env {
            let value = match value {
                Value::Plain(value) => value.clone(),
                Value::Secret(secret) => secret.expose().into(),
            };
            env.insert(name.clone(), value);
        }
        env
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |c: char| c.is_alphanumeric() || "-_./=:,@%+[]".contains(c);
        let words = self.argv().into_iter().map(|word| {
            if !word.is_empty() && word.chars().all(harmless) {
                word
            } else if word.chars().any(char::is_control) {
                format!("{word:?}")
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        });
        // A secret may have been handed over as a plain argument besides.
        let redactor = Redactor::default();
        self.teach(&redactor);
        f.write_str(&redactor.redact(&words.collect::<Vec<_>>().join(" ")))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("argv", &format_args!("{self}"))
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_without_secrets() {
        let secret = || Secret::new("hunter2 \"x\"");
        let command = Command::new("tool")
            .args(["", "a b", "it's", "line\nbreak", "postgres://u:p@h", "-x=hunter2 \"x\""])
            .arg_secret(secret())
            .arg_secret_after("--password=", secret())
            .env("PLAIN", "value")
            .secret_env("TOKEN", secret());
        assert_eq!(
            command.to_string(),
            "tool '' 'a b' 'it'\\''s' \"line\\nbreak\" postgres://u:[redacted]@h '-x=[redacted]' \
             [redacted] --password=[redacted]"
        );
        let debug = format!("{command:?}");
        assert!(debug.contains("TOKEN") && debug.contains("PLAIN"), "{debug}");
        assert!(!debug.contains("hunter2") && !debug.contains("value"), "{debug}");
    }

    #[test]
    fn the_environment_is_an_allow_list() {
        let own = ["PATH", "HOME", "LC_ALL", "LCX", "SECRET", "WANTED", "LD_PRELOAD", "USER"];
        let own = own.map(|name| (OsString::from(name), OsString::from("own")));
        let command = Command::new("x").inherit_env(["WANTED"]).env("HOME", "mine").env("NEW", "n");
        let env = command.real_env(own.into_iter());
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(env.join(" "), "HOME=mine LC_ALL=own NEW=n PATH=own USER=own WANTED=own");
    }
}
