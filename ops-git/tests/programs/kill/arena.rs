//! The repository that operations are killed on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::state::{State, Thing};
use super::victim::Verb;

/// Numbers that look random and are the same for the same seed.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64
    }
}

/// What an operation is to bring about.
pub struct Aim {
    verb: Verb,
    /// A branch.
    pub target: String,
    before: State,
}

/// A work tree between the branches `one` and `two`, with files of a user in it; and the branches
/// `base` and `topic`, which merge.
pub struct Arena {
    pub folder: PathBuf,
    /// What each branch has, as git checks it out, and the index then, in words.
    branches: BTreeMap<&'static str, (BTreeMap<PathBuf, Thing>, String)>,
    /// What git says of the user's files.
    status: String,
    base: String,
    merged: String,
    now: State,
}

/// In this environment nobody's configuration counts.
pub fn git(folder: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["--no-optional-locks", "-c", "gc.auto=0"]).args(arguments);
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "T").env(format!("GIT_{who}_EMAIL"), "t@example.org");
    }
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    git.stdin(Stdio::null());
    git
}

pub fn ask(folder: &Path, arguments: &[&str]) -> String {
    let output = git(folder, arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

impl Arena {
    pub fn create(folder: &Path, files: usize, seed: u64) -> Self {
        std::fs::create_dir(folder).expect("the folder is to be new");
        let folder = folder.canonicalize().unwrap();
        let work = folder.join("work");
        ask(&folder, &["init", "-q", "-b", "one", "work"]);
        ask(&work, &["config", "user.name", "T"]);
        ask(&work, &["config", "user.email", "t@example.org"]);
        import(&work, files, &mut Numbers::new(seed));
        ask(&work, &["reset", "-q", "--hard"]);
        for (path, content) in [("mine/notes", "mine\n"), ("x.log", "ignored\n")] {
            std::fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
            std::fs::write(work.join(path), content).unwrap();
        }
        std::fs::write(work.join("shared"), "changed here\n").unwrap();
        std::fs::write(work.join("added"), "staged\n").unwrap();
        ask(&work, &["add", "added"]);
        let status = status(&work);
        let mut branches = BTreeMap::new();
        for branch in ["two", "one"] {
            ask(&work, &["checkout", "-q", branch]);
            assert_eq!(self::status(&work), status);
            branches.insert(branch, (State::of(&work).things().clone(), stages(&work)));
        }
        let merged = ask(&work, &["merge-tree", "--write-tree", "base", "topic"]);
        let base = ask(&work, &["rev-parse", "base"]);
        let (merged, base) = (merged.trim_end().to_owned(), base.trim_end().to_owned());
        let now = State::of(&work);
        Self { folder, branches, status, base, merged, now }
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    pub fn aim(&self, verb: Verb) -> Aim {
        let other = if self.now.head == "ref: refs/heads/one\n" { "two" } else { "one" };
        let target = if verb == Verb::Merge { "topic" } else { other };
        Aim { verb, target: target.to_owned(), before: self.now.clone() }
    }

    /// Whether the state is the new one; an error if it is neither the old nor the new one.
    pub fn settled(&mut self, aim: &Aim) -> Result<bool, String> {
        let work = self.work();
        self.now = State::of(&work);
        self.now.tidy(&work)?;
        let said = status(&work);
        if said != self.status {
            return Err(format!("git status says {said:?}, not {:?}", self.status));
        }
        let Some(difference) = self.now.difference(&aim.before) else { return Ok(false) };
        match aim.verb {
            Verb::Checkout => self.is_checked_out(aim, &difference).map(|()| true),
            Verb::Merge => self.is_merged(aim, &difference).map(|()| true),
            Verb::Fail | Verb::Recover => Err(format!("it is not the old state: {difference}")),
        }
    }

    fn is_checked_out(&self, aim: &Aim, difference: &str) -> Result<(), String> {
        let now = &self.now;
        if now.head != format!("ref: refs/heads/{}\n", aim.target) {
            return Err(format!("HEAD is where it was, but {difference}"));
        }
        if now.refs != aim.before.refs {
            return Err(format!("refs have moved: {}", now.refs));
        }
        let (things, index) = &self.branches[aim.target.as_str()];
        for (path, thing) in things {
            if now.things().get(path) != Some(thing) {
                return Err(format!("`{}` is not that of `{}`", path.display(), aim.target));
            }
        }
        if now.things().len() != things.len() {
            return Err(format!("there is more than `{}` has", aim.target));
        }
        if stages(&self.work()) != *index {
            return Err(format!("the index is not that of `{}`", aim.target));
        }
        Ok(())
    }

    fn is_merged(&mut self, aim: &Aim, difference: &str) -> Result<(), String> {
        let work = self.work();
        let commit = ask(&work, &["rev-parse", "base"]);
        let wanted = aim.before.refs.replace(
            &format!("{} commit\trefs/heads/base\n", self.base),
            &format!("{} commit\trefs/heads/base\n", commit.trim_end()),
        );
        let mut but_for_base = aim.before.clone();
        but_for_base.refs = wanted;
        if let Some(other) = self.now.difference(&but_for_base) {
            return Err(format!("{difference}; beside `base`: {other}"));
        }
        let tree = ask(&work, &["rev-parse", "base^{tree}", "base^1"]);
        if tree != format!("{}\n{}\n", self.merged, self.base) {
            return Err(format!("`base` is no merge: {tree}"));
        }
        ask(&work, &["update-ref", "refs/heads/base", &self.base]);
        self.now = State::of(&work);
        Ok(())
    }

    /// That git finds the whole repository sound.
    pub fn sound(&self) -> Result<(), String> {
        let found = git(&self.work(), &["fsck", "--no-dangling"]).output().unwrap();
        if found.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&found.stderr).into_owned())
    }
}

fn status(work: &Path) -> String {
    ask(work, &["status", "--porcelain", "--untracked-files=all", "--ignored"])
}

fn stages(work: &Path) -> String {
    ask(work, &["ls-files", "--stage"])
}

/// Every file of `one` has other bytes in `two`, another mode or another name; some are links, and
/// some are folders in the other.
fn import(work: &Path, files: usize, numbers: &mut Numbers) {
    let mut stream = Vec::new();
    let commit = |stream: &mut Vec<u8>, branch: &str, from: &str| {
        let head = "committer C <c@example.org> 1700000000 +0000\ndata 2\nC\n";
        write!(stream, "commit refs/heads/{branch}\n{head}{from}").unwrap();
    };
    let put = |stream: &mut Vec<u8>, mode: &str, path: &str, content: &str| {
        write!(stream, "M {mode} inline {path}\ndata {}\n{content}\n", content.len()).unwrap();
    };
    for (number, branch) in ["one", "two"].into_iter().enumerate() {
        commit(&mut stream, branch, "");
        put(&mut stream, "100644", ".gitignore", "*.log\n");
        put(&mut stream, "100644", "shared", "as committed\n");
        for file in 0..files {
            let folder = format!("d{}/e{}", file % 17, file % 101);
            let mode = if (file + number) % 50 == 0 { "100755" } else { "100644" };
            let mut content = format!("{branch} {file}\n");
            for _ in 0..numbers.below(60) {
                let _ = writeln!(content, "{:x}", numbers.below(1 << 50));
            }
            match file % 40 {
                0 => put(
                    &mut stream,
                    "120000",
                    &format!("{folder}/f{file}"),
                    &format!("to-{branch}"),
                ),
                1 if number == 0 => put(&mut stream, mode, &format!("{folder}/s{file}"), &content),
                1 => put(&mut stream, mode, &format!("{folder}/s{file}/in"), &content),
                2 => put(&mut stream, mode, &format!("{branch}/{folder}/f{file}"), &content),
                _ => put(&mut stream, mode, &format!("{folder}/f{file}"), &content),
            }
        }
    }
    let lines = |change: usize| {
        (0..50).fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "line {line}{}", if line == change { " changed" } else { "" });
            text
        })
    };
    commit(&mut stream, "base", "");
    for file in 0..200 {
        put(&mut stream, "100644", &format!("m{}/f{file}", file % 9), &lines(99));
    }
    for (branch, from, at) in [("topic", "from refs/heads/base\n", 3), ("base", "", 40)] {
        commit(&mut stream, branch, from);
        for file in 0..100 {
            put(&mut stream, "100644", &format!("m{}/f{file}", file % 9), &lines(at));
        }
    }
    let mut import = git(work, &["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(import.wait().unwrap().success());
}
