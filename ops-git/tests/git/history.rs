//! Histories from short texts, made by `git fast-import`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ops_git::GitRepository;

use crate::fixture::{command, git};

/// The files of a tree: path to mode and content.
pub type Files = BTreeMap<String, (&'static str, String)>;

pub const FILE: &str = "100644";
pub const PROGRAM: &str = "100755";
pub const LINK: &str = "120000";
pub const SUBMODULE: &str = "160000";

/// Reads `a=1|2|3 *run=x @link=target +module=1`: files, a program, a link, a submodule. A bar ends
/// a line.
pub fn files(text: &str) -> Files {
    let one = |word: &str| {
        let (path, content) = word.split_once('=').unwrap_or_else(|| panic!("no `=` in {word}"));
        let lines: String = content.split_terminator('|').flat_map(|line| [line, "\n"]).collect();
        match path.split_at(1) {
            ("*", path) => (path.to_owned(), (PROGRAM, lines)),
            ("@", path) => (path.to_owned(), (LINK, content.to_owned())),
            ("+", path) => (path.to_owned(), (SUBMODULE, content.repeat(40))),
            _ => (path.to_owned(), (FILE, lines)),
        }
    };
    text.split_whitespace().map(one).collect()
}

/// A bare repository that histories are put into.
pub struct Histories {
    dir: tempfile::TempDir,
}

impl Histories {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "."]);
        Self { dir }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn repository(&self) -> GitRepository {
        GitRepository::open(self.dir.path()).unwrap()
    }

    /// Makes commits, each from its parents (numbers of earlier ones) and its files; their ids.
    pub fn commits(&self, commits: &[(&[usize], &Files)]) -> Vec<String> {
        let mut script = String::from("feature done\n");
        for (number, (parents, files)) in commits.iter().enumerate() {
            // Later commits are younger, so that the order of merge bases is settled.
            let time = 1_700_000_000 + number * 60;
            write!(
                script,
                "commit refs/drawn/c{number}\nmark :{}\ncommitter C <c@example.org> {time} +0000\n\
                 data 2\nc\n",
                number + 1
            )
            .unwrap();
            for (at, parent) in parents.iter().enumerate() {
                let word = if at == 0 { "from" } else { "merge" };
                writeln!(script, "{word} :{}", parent + 1).unwrap();
            }
            script += "deleteall\n";
            for (path, (mode, content)) in *files {
                if *mode == SUBMODULE {
                    writeln!(script, "M {mode} {content} {path}").unwrap();
                } else {
                    write!(script, "M {mode} inline {path}\ndata {}\n{content}\n", content.len())
                        .unwrap();
                }
            }
        }
        script += "done\n";
        self.import(&script);
        let mut list = vec!["rev-parse".to_owned()];
        list.extend((0..commits.len()).map(|number| format!("refs/drawn/c{number}")));
        let list: Vec<_> = list.iter().map(String::as_str).collect();
        let ids = git(self.dir.path(), &list).lines().map(str::to_owned).collect();
        for number in 0..commits.len() {
            let _ = std::fs::remove_file(self.dir.path().join(format!("refs/drawn/c{number}")));
        }
        ids
    }

    fn import(&self, script: &str) {
        let mut import = command(self.dir.path(), &["fast-import", "--quiet", "--force"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success(), "{script}");
    }
}

/// The number of objects in a repository, loose and packed.
pub fn objects(path: &Path) -> usize {
    let list = git(path, &["cat-file", "--batch-all-objects", "--batch-check", "--unordered"]);
    list.lines().count()
}
