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

/// A work tree between the branches `one` and `two`, with files of a user in it; `topic-one` and
/// `topic-two` merge into them.
pub struct Arena {
    pub folder: PathBuf,
    branches: BTreeMap<&'static str, Branch>,
    /// What git says of the user's files.
    status: String,
    /// The same while nothing is staged, as a merge wants it.
    unstaged: String,
    now: State,
}

/// A branch as git has it.
struct Branch {
    tip: String,
    checked_out: Tree,
    merged: Tree,
}

/// A commit's tree in the work tree, with the user's files.
#[derive(PartialEq)]
struct Tree {
    things: BTreeMap<PathBuf, Thing>,
    /// The index, in words.
    stages: String,
}

impl Tree {
    fn of(work: &Path) -> Self {
        Self { things: State::of(work).things().clone(), stages: stages(work) }
    }
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
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
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
        let mut unstaged = String::new();
        for (branch, topic) in [("two", "topic-two"), ("one", "topic-one")] {
            ask(&work, &["checkout", "-q", branch]);
            assert_eq!(self::status(&work), status);
            let (checked_out, tip) = (Tree::of(&work), ask(&work, &["rev-parse", branch]));
            unstage(&work);
            unstaged = self::status(&work);
            ask(&work, &["merge", "-q", "-m", "Merge the topic", topic]);
            let merged = Tree::of(&work);
            ask(&work, &["reset", "-q", "--keep", &tip]);
            stage(&work);
            branches.insert(branch, Branch { tip, checked_out, merged });
        }
        let now = State::of(&work);
        Self { folder, branches, status, unstaged, now }
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    pub fn aim(&mut self, verb: Verb) -> Aim {
        let (here, other) =
            if self.now.head == "ref: refs/heads/one\n" { ("one", "two") } else { ("two", "one") };
        let target = if verb == Verb::Merge {
            unstage(&self.work());
            self.now = State::of(&self.work());
            format!("topic-{here}")
        } else {
            other.to_owned()
        };
        Aim { verb, target, before: self.now.clone() }
    }

    /// Whether the state is the new one; an error if it is neither the old nor the new one.
    pub fn settled(&mut self, aim: &Aim) -> Result<bool, String> {
        let work = self.work();
        self.now = State::of(&work);
        self.now.tidy(&work)?;
        let (said, wanted) = (status(&work), self.status_at(aim.verb));
        if said != wanted {
            return Err(format!("git status says {said:?}, not {wanted:?}"));
        }
        let difference = self.now.difference(&aim.before);
        match (aim.verb, difference) {
            (Verb::Merge, difference) => {
                if let Some(difference) = &difference {
                    self.is_merged(aim, difference)?;
                }
                stage(&work);
                self.now = State::of(&work);
                Ok(difference.is_some())
            }
            (_, None) => Ok(false),
            (Verb::Checkout, Some(difference)) => {
                self.is_checked_out(aim, &difference).map(|()| true)
            }
            (Verb::Fail | Verb::Recover, Some(difference)) => {
                Err(format!("it is not the old state: {difference}"))
            }
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
        self.holds(&self.branches[aim.target.as_str()].checked_out)
    }

    /// That the work tree and the index are as git made them.
    fn holds(&self, tree: &Tree) -> Result<(), String> {
        let things = self.now.things();
        for (path, thing) in &tree.things {
            if things.get(path) != Some(thing) {
                return Err(format!("`{}` is not as git has it", path.display()));
            }
        }
        if things.len() != tree.things.len() {
            return Err("there is more than git has".into());
        }
        if stages(&self.work()) != tree.stages {
            return Err("the index is not as git has it".into());
        }
        Ok(())
    }

    fn status_at(&self, verb: Verb) -> &str {
        if verb == Verb::Merge { &self.unstaged } else { &self.status }
    }

    fn is_merged(&self, aim: &Aim, difference: &str) -> Result<(), String> {
        let work = self.work();
        if self.now.head != aim.before.head {
            return Err(format!("HEAD has left its branch: {difference}"));
        }
        let name = aim.target.trim_start_matches("topic-");
        let branch = &self.branches[name];
        let commit = ask(&work, &["rev-parse", name]);
        let line = |commit: &str| format!("{commit} commit\trefs/heads/{name}");
        if self.now.refs != aim.before.refs.replace(&line(&branch.tip), &line(&commit)) {
            return Err(format!("other refs have moved: {}", self.now.refs));
        }
        let parents = ask(&work, &["log", "-1", "--format=%P", name, "--"]);
        let topic = ask(&work, &["rev-parse", &aim.target]);
        if parents != format!("{} {topic}", branch.tip) {
            return Err(format!("`{name}` is no merge of `{}`: {parents}", aim.target));
        }
        self.holds(&branch.merged)?;
        ask(&work, &["reset", "-q", "--keep", &branch.tip]);
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

/// The file that the user has staged, and takes back before a merge.
fn stage(work: &Path) {
    ask(work, &["add", "added"]);
}

fn unstage(work: &Path) {
    ask(work, &["rm", "-q", "--cached", "added"]);
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
    // A topic changes every second file of its branch, which has gone on meanwhile.
    for (branch, topic) in [("one", "topic-one"), ("two", "topic-two")] {
        commit(&mut stream, topic, &format!("from refs/heads/{branch}\n"));
        for file in (5..files).step_by(2).filter(|file| file % 40 > 2) {
            let path = format!("d{}/e{}/f{file}", file % 17, file % 101);
            if file % 7 == 0 {
                writeln!(stream, "D {path}").unwrap();
                put(&mut stream, "100644", &format!("{topic}/{path}"), &format!("new {file}\n"));
            } else {
                put(&mut stream, "100644", &path, &format!("{topic} {file}\n"));
            }
        }
        commit(&mut stream, branch, "");
        put(&mut stream, "100644", "went-on", &format!("{branch}\n"));
    }
    let mut import = git(work, &["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(import.wait().unwrap().success());
}
