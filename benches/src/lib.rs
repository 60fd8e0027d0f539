//! What is measured, and against which peers. Two programs measure it: `ops-bench` lets the sides take
//! turns and tells their ratio; `cargo bench` has criterion look at each side for itself.

pub mod backup;
mod child;
pub mod deploy;
pub mod git;
pub mod journal;
pub mod own_program;
mod peers;
pub mod proxy;
pub mod rounds;
pub mod saga;
pub mod scratch;

use std::path::{Path, PathBuf};

/// Why nothing could be measured.
pub type Failure = Box<dyn std::error::Error>;

/// What the caller wants to have measured.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Fewer rounds, and less data.
    pub quick: bool,
    /// Where on the disk.
    pub folder: PathBuf,
    /// A repository to measure beside the generated one.
    pub git_repository: Option<PathBuf>,
    /// How many MB of rows a PostgreSQL database has, if not as many as usual.
    pub megabytes: Option<u32>,
    /// Peers that are left out.
    pub without: Vec<String>,
}

impl Wish {
    /// Of a run in this folder, without a repository.
    pub fn new(quick: bool, folder: &Path) -> Self {
        Self {
            quick,
            folder: folder.to_owned(),
            git_repository: None,
            megabytes: None,
            without: Vec::new(),
        }
    }
}

impl Wish {
    /// Whether this peer is left out.
    pub fn is_without(&self, peer: &str) -> bool {
        self.without.iter().any(|name| name == peer)
    }
}

/// Benchmarks that belong together.
#[derive(Debug)]
pub struct Family {
    /// What they are of.
    pub name: &'static str,
    /// Names every program of the peers that is missing.
    pub need: fn(&Wish) -> Result<(), Failure>,
    /// Makes them.
    pub make: fn(&Wish) -> Result<Vec<rounds::Benchmark>, Failure>,
}

/// Every benchmark.
pub const ALL: [Family; 6] = [
    Family {
        name: "journal",
        need: |_| Ok(()),
        make: |wish| Ok(vec![journal::benchmark(wish.quick, &wish.folder)?]),
    },
    Family {
        name: "saga",
        need: |_| Ok(()),
        make: |wish| Ok(vec![saga::benchmark(wish.quick, &wish.folder)?]),
    },
    Family { name: "backup", need: backup::need_programs, make: backup::benchmarks },
    Family { name: "git", need: git::need_programs, make: git::benchmarks },
    Family { name: "deploy", need: deploy::need_programs, make: deploy::benchmarks },
    Family { name: "proxy", need: proxy::need_programs, make: proxy::benchmarks },
];
