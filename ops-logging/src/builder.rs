//! How logging is put together.

use std::path::PathBuf;
use std::sync::Arc;

use ops_core::{Clock, Redactor, Refusal, SystemClock};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::console::{Console, ConsoleSink};
use crate::error::{Error, ErrorKind};
use crate::file::{FileSink, Retention, Settings, is_prefix};
use crate::format::{Format, Formatter};
use crate::guard::LogGuard;
use crate::layer::LogLayer;
use crate::sink::Sink;
use crate::time::{TimeStyle, Zone};

/// The way in: [`Logging::builder`].
#[derive(Debug)]
pub struct Logging;

impl Logging {
    /// Starts from the defaults: no directory, no console, human lines of level `info`, universal
    /// time, 10 MiB a file, a new file each day, 7 days.
    pub fn builder() -> LoggingBuilder {
        LoggingBuilder {
            directory: None,
            prefix: "app".to_owned(),
            format: Format::default(),
            console: Console::Off,
            trouble: Console::Stderr,
            filter: "info".to_owned(),
            max_bytes: 10 * 1024 * 1024,
            daily: true,
            retention: Retention::default(),
            redactor: Redactor::default(),
            time: TimeStyle::Utc,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// Settings of logging; see [`Logging::builder`] for the defaults.
#[derive(Debug, Clone)]
#[must_use = "nothing is logged before `install` or `layer`"]
pub struct LoggingBuilder {
    directory: Option<PathBuf>,
    prefix: String,
    format: Format,
    console: Console,
    trouble: Console,
    filter: String,
    max_bytes: u64,
    daily: bool,
    retention: Retention,
    redactor: Redactor,
    time: TimeStyle,
    clock: Arc<dyn Clock>,
}

impl LoggingBuilder {
    /// Writes files into this folder, which is created with its parents if it is missing.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How the files' names begin: 1 to 64 ASCII letters, digits, `_` and `-`. Default `app`.
    pub fn file_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How a line looks, in the file and on the console. Default [`Format::Human`].
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Which stream gets every line too. Default [`Console::Off`].
    pub fn console(mut self, console: Console) -> Self {
        self.console = console;
        self
    }

    /// Which stream is told, at most once a second, that lines cannot be written. Default
    /// [`Console::Stderr`].
    pub fn trouble(mut self, trouble: Console) -> Self {
        self.trouble = trouble;
        self
    }

    /// Logs this level and what is graver, of every target. Replaces a filter given before.
    pub fn level(mut self, level: Level) -> Self {
        self.filter = level.to_string();
        self
    }

    /// Logs what these directives let through, as in `info,hyper=warn,app::db[query]=debug`.
    /// Replaces a level given before. The environment is not read.
    pub fn filter(mut self, directives: impl Into<String>) -> Self {
        self.filter = directives.into();
        self
    }

    /// Begins a new file before one grows past this many bytes. Default 10 MiB. A longer line gets
    /// a file of its own.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Whether a new day begins a new file. Default true.
    pub fn daily(mut self, daily: bool) -> Self {
        self.daily = daily;
        self
    }

    /// Removes files this many days after the day in their name. Default 7.
    pub fn keep_days(mut self, days: u16) -> Self {
        self.retention.days = Some(days);
        self
    }

    /// Removes the oldest files beyond this many, the open one counted. Default: no such limit.
    pub fn keep_files(mut self, files: usize) -> Self {
        self.retention.files = Some(files);
        self
    }

    /// Removes the oldest files while all together are larger than this. Default: no such limit.
    /// Looked at whenever a file begins and once an hour, so the open file may add `max_bytes`.
    pub fn keep_total_bytes(mut self, bytes: u64) -> Self {
        self.retention.total_bytes = Some(bytes);
        self
    }

    /// Replaces the whole policy of what is kept; `Retention::keep_all()` removes nothing.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Replaces the secrets that this redactor knows, also those that it learns later.
    pub fn redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// In which zone lines are stamped and days begin. Default [`TimeStyle::Utc`].
    pub fn time(mut self, time: TimeStyle) -> Self {
        self.time = time;
        self
    }

    /// The time source. Default: the machine's.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the outputs and gives a layer for a subscriber of one's own, with its guard. The
    /// filter is the layer's own and takes nothing away from other layers.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with every reason, or [`ErrorKind::Io`] if the directory, its
    /// lock or the first file cannot be opened.
    pub fn layer<S>(self) -> Result<(impl Layer<S> + Send + Sync + use<S>, LogGuard), Error>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let (layer, filter, guard) = self.open()?;
        Ok((layer.with_filter(filter), guard))
    }

    /// Opens the outputs and installs them as the process's global subscriber, also for records of
    /// the `log` crate. For programs; a library takes no global.
    ///
    /// # Errors
    /// As [`layer`](Self::layer), and [`ErrorKind::AlreadyInstalled`].
    pub fn install(self) -> Result<LogGuard, Error> {
        let (layer, guard) = self.layer()?;
        tracing_subscriber::registry().with(layer).try_init().map_err(|source| {
            Error::new(ErrorKind::AlreadyInstalled, "the process has a global logger already")
                .remedy("install once, at the start of `main`, or add `layer()` to your subscriber")
                .caused_by(source)
        })?;
        Ok(guard)
    }

    fn open(self) -> Result<(LogLayer, EnvFilter, LogGuard), Error> {
        let filter = EnvFilter::builder().parse(&self.filter);
        let reasons = self.refusals(filter.as_ref().err());
        let Ok(filter) = filter else { return Err(refused(reasons)) };
        if !reasons.is_empty() {
            return Err(refused(reasons));
        }
        let zone = Zone::new(self.time);
        let formatter = Formatter { format: self.format, redactor: self.redactor };
        let file = match self.directory {
            None => None,
            Some(directory) => Some(Arc::new(FileSink::open(Settings {
                directory,
                prefix: self.prefix,
                max_bytes: self.max_bytes,
                daily: self.daily,
                retention: self.retention,
                zone: zone.clone(),
                clock: Arc::clone(&self.clock),
                formatter: formatter.clone(),
                trouble: self.trouble,
            })?)),
        };
        let console: Option<Arc<dyn Sink>> =
            self.console.writer().map(|out| Arc::new(ConsoleSink::new(out)) as Arc<dyn Sink>);
        let sinks = file
            .iter()
            .map(|file| Arc::clone(file) as Arc<dyn Sink>)
            .chain(console.clone())
            .collect();
        let layer = LogLayer { sinks, formatter, zone, clock: self.clock };
        Ok((layer, filter, LogGuard { file, console }))
    }

    fn refusals(&self, filter: Option<&tracing_subscriber::filter::ParseError>) -> Vec<Refusal> {
        let mut reasons = Vec::new();
        if self.directory.is_none() && self.console == Console::Off {
            reasons.push(Refusal::new(
                "there is neither a directory nor a console",
                "call `directory` or `console`",
            ));
        }
        if !is_prefix(&self.prefix) {
            reasons.push(Refusal::new(
                format!("the file prefix {:?} cannot name files", self.prefix),
                "use 1 to 64 ASCII letters, digits, `_` and `-`",
            ));
        }
        if self.max_bytes == 0 {
            reasons.push(Refusal::new("`max_bytes` is 0", "give 1 or more, such as 10 MiB"));
        }
        if self.retention.files == Some(0) {
            reasons.push(Refusal::new("`keep_files` is 0", "give 1 or more: the open file counts"));
        }
        if let Some(error) = filter {
            reasons.push(Refusal::new(
                format!("the filter `{}` cannot be read: {error}", self.filter),
                "use directives such as `info,hyper=warn`",
            ));
        }
        reasons
    }
}

fn refused(reasons: Vec<Refusal>) -> Error {
    Error::new(ErrorKind::InvalidInput, "logging cannot be built").refusals(reasons)
}
