//! How many commits two histories have apart from each other.
//!
//! Both tips are painted downwards, newest first, until only commits are left that both have. Where
//! git has written a commit-graph, its generation numbers say what "newest" is and the answer is
//! exact; without one the commits' dates do, and where these run backwards in what was walked,
//! everything is walked. What is left of a doubt counts commits as apart that are not: a
//! fast-forward is then refused, never made up.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

use crate::error::{Error, GitResult as _};
use crate::fetch::boundary;

/// Reached from the first tip.
const ONE: u8 = 1;
/// Reached from the other.
const OTHER: u8 = 2;
const BOTH: u8 = ONE | OTHER;

/// How two commits lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Apart {
    /// How many commits only the first has.
    pub ahead: usize,
    /// How many commits only the other has.
    pub behind: usize,
    /// Whether the history is cut off below a commit that only one of them has: what lies beyond
    /// could make both numbers smaller or larger. That all of one is in the other stays true.
    pub cut: bool,
}

/// The generation, where a commit-graph knows it, and the date: parents come after children.
type Age = (u32, i64);

struct Found {
    age: Age,
    parents: Vec<gix::ObjectId>,
    paint: u8,
    queued: bool,
}

pub(crate) fn ahead_behind(
    repo: &gix::Repository,
    one: gix::ObjectId,
    other: gix::ObjectId,
) -> Result<Apart, Error> {
    if one == other {
        return Ok(Apart::default());
    }
    let boundary = boundary(repo)?;
    let graph = if boundary.is_empty() {
        // One that is damaged or of a newer kind is no use, and no harm either.
        repo.commit_graph_if_enabled().ok().flatten()
    } else {
        // It may know parents that are not here.
        None
    };
    Painting { repo, graph, boundary, found: HashMap::new(), queue: BinaryHeap::new(), left: 0 }
        .run(one, other)
}

struct Painting<'a> {
    repo: &'a gix::Repository,
    graph: Option<gix::commitgraph::Graph>,
    boundary: BTreeSet<gix::ObjectId>,
    found: HashMap<gix::ObjectId, Found>,
    queue: BinaryHeap<(Age, gix::ObjectId)>,
    /// How many in the queue have one colour only.
    left: usize,
}

impl Painting<'_> {
    fn run(mut self, one: gix::ObjectId, other: gix::ObjectId) -> Result<Apart, Error> {
        self.all(one, other)?;
        let mut apart = Apart::default();
        for (id, found) in &self.found {
            match found.paint {
                ONE => apart.ahead += 1,
                OTHER => apart.behind += 1,
                _ => continue,
            }
            apart.cut |= self.boundary.contains(id);
        }
        Ok(apart)
    }

    /// Paints until nothing can change any more.
    fn all(&mut self, one: gix::ObjectId, other: gix::ObjectId) -> Result<(), Error> {
        self.paint(one, ONE)?;
        self.paint(other, OTHER)?;
        // The oldest commit that was seen with one colour.
        let mut oldest = (u32::MAX, i64::MAX);
        let mut backwards = false;
        while let Some((age, id)) = self.queue.pop() {
            let at = self.found.get_mut(&id).expect("whatever is in the queue was found");
            at.queued = false;
            let (paint, parents) = (at.paint, at.parents.clone());
            if paint == BOTH {
                if !backwards && self.left == 0 && age < oldest {
                    break;
                }
            } else {
                self.left -= 1;
                oldest = oldest.min(age);
            }
            for parent in parents {
                let parent_age = self.paint(parent, paint)?;
                backwards |= parent_age > age;
            }
        }
        Ok(())
    }

    /// Gives a commit a colour, and queues it if that was news. Answers its age.
    fn paint(&mut self, id: gix::ObjectId, colour: u8) -> Result<Age, Error> {
        if !self.found.contains_key(&id) {
            let found = self.look_up(id)?;
            self.found.insert(id, found);
        }
        let found = self.found.get_mut(&id).expect("it was put there");
        let age = found.age;
        let both = found.paint | colour == BOTH;
        if found.paint | colour != found.paint {
            if !found.queued {
                self.queue.push((age, id));
                self.left += usize::from(!both);
            } else if both {
                self.left -= 1;
            }
            found.paint |= colour;
            found.queued = true;
        }
        Ok(age)
    }

    fn look_up(&self, id: gix::ObjectId) -> Result<Found, Error> {
        if let Some(graph) = &self.graph
            && let Some(commit) = graph.commit_by_id(id)
        {
            let parents = commit
                .iter_parents()
                .map(|position| position.map(|position| graph.id_at(position).to_owned()))
                .collect::<Result<Vec<_>, _>>()
                .history(id)?;
            // A graph from before generation numbers has noughts.
            let generation = Some(commit.generation()).filter(|g| *g > 0).unwrap_or(u32::MAX);
            let date = i64::try_from(commit.committer_timestamp()).unwrap_or(i64::MAX);
            return Ok(Found { age: (generation, date), parents, paint: 0, queued: false });
        }
        let commit = self.repo.find_commit(id).history(id)?;
        let date = commit.time().history(id)?.seconds;
        let parents = if self.boundary.contains(&id) {
            Vec::new()
        } else {
            commit.parent_ids().map(gix::Id::detach).collect()
        };
        Ok(Found { age: (u32::MAX, date), parents, paint: 0, queued: false })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    fn git(dir: &Path, words: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A small generator: the histories are the same every time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as usize % below
        }
    }

    /// Makes a history of so many commits; their ids, and the parents of each.
    fn history(
        dir: &Path,
        dice: &mut Dice,
        (count, reach): (usize, usize),
        date: impl Fn(&mut Dice, usize) -> usize,
    ) -> (Vec<gix::ObjectId>, Vec<Vec<usize>>) {
        git(dir, &["init", "-q", "--bare", "."]);
        let mut script = String::from("feature done\n");
        let mut parents = Vec::new();
        for number in 0..count {
            let of = match number {
                0 => Vec::new(),
                // Now and then a root of its own, a long branch, a merge.
                _ if number < reach && dice.roll(60) == 0 => Vec::new(),
                _ => {
                    let first = number - 1 - dice.roll(number.min(12));
                    let second = number - 1 - dice.roll(number.min(reach));
                    if dice.roll(3) == 0 && second != first {
                        vec![first, second]
                    } else {
                        vec![first]
                    }
                }
            };
            write!(
                script,
                "commit refs/heads/c{number}\nmark :{}\ncommitter C <c@example.org> {} +0000\n\
                 data 6\n{number:05}\n\n",
                number + 1,
                1_700_000_000 + date(dice, number)
            )
            .unwrap();
            for (at, parent) in of.iter().enumerate() {
                let word = if at == 0 { "from" } else { "merge" };
                writeln!(script, "{word} :{}", parent + 1).unwrap();
            }
            parents.push(of);
        }
        script += "done\n";
        let mut import = Command::new("git")
            .current_dir(dir)
            .args(["fast-import", "--quiet", "--export-marks=marks"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
        let marks = std::fs::read_to_string(dir.join("marks")).unwrap();
        let mut ids = vec![gix::ObjectId::null(gix::hash::Kind::Sha1); count];
        for line in marks.lines() {
            let (mark, id) = line.split_once(' ').unwrap();
            ids[mark[1..].parse::<usize>().unwrap() - 1] =
                gix::ObjectId::from_hex(id.as_bytes()).unwrap();
        }
        (ids, parents)
    }

    fn ancestors(parents: &[Vec<usize>], of: usize) -> BTreeSet<usize> {
        let (mut found, mut left) = (BTreeSet::new(), vec![of]);
        while let Some(at) = left.pop() {
            if found.insert(at) {
                left.extend(&parents[at]);
            }
        }
        found
    }

    #[test]
    fn it_counts_as_git_does_and_as_sets_do() {
        type Date = fn(&mut Dice, usize) -> usize;
        let dates: [(&str, Date); 4] = [
            ("in order", |_, number| number * 60),
            ("all the same", |_, _| 0),
            ("within one minute", |dice, number| number * 10 + dice.roll(60)),
            ("any", |dice, _| dice.roll(100_000)),
        ];
        let mut dice = Dice(1);
        for (name, date) in dates {
            for with_graph in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let (ids, parents) = history(dir.path(), &mut dice, (250, 250), date);
                if with_graph {
                    // The youngest are not in it.
                    for number in 230..250 {
                        git(dir.path(), &["update-ref", "-d", &format!("refs/heads/c{number}")]);
                    }
                    git(dir.path(), &["commit-graph", "write", "--reachable"]);
                }
                let repo = gix::open_opts(dir.path(), gix::open::Options::isolated()).unwrap();
                for round in 0..150 {
                    let (one, other) = (dice.roll(250), dice.roll(250));
                    let (up, down) = (ancestors(&parents, one), ancestors(&parents, other));
                    let expected = (up.difference(&down).count(), down.difference(&up).count());
                    let found = ahead_behind(&repo, ids[one], ids[other]).unwrap();
                    let what = format!("{name}, graph {with_graph}: {one} {other}");
                    if name == "any" && !with_graph {
                        // Dates that lie may only make it more careful.
                        assert!(found.ahead >= expected.0 && found.behind >= expected.1, "{what}");
                    } else {
                        assert_eq!((found.ahead, found.behind), expected, "{what}");
                    }
                    if round % 15 == 0 && name != "any" {
                        let range = format!("{}...{}", ids[one], ids[other]);
                        let by_git =
                            git(dir.path(), &["rev-list", "--left-right", "--count", &range]);
                        assert_eq!(by_git, format!("{}\t{}", expected.0, expected.1), "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn it_looks_at_little_of_a_long_history() {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(2);
        let (ids, _) = history(dir.path(), &mut dice, (3000, 30), |_, number| number * 60);
        let repo = gix::open_opts(dir.path(), gix::open::Options::isolated()).unwrap();
        let mut painting = Painting {
            repo: &repo,
            graph: None,
            boundary: BTreeSet::new(),
            found: HashMap::new(),
            queue: BinaryHeap::new(),
            left: 0,
        };
        painting.all(ids[2990], ids[2999]).unwrap();
        assert!(painting.found.len() < 300, "{} commits were looked at", painting.found.len());
    }
}
