//! A repository of 6,000 files, the same in every run.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use crate::Failure;
use crate::child::{ask, git};

const FILES: usize = 6_000;
/// How many commits `main` has on top of `before`.
pub(super) const COMMITS: usize = 1_000;
/// Every so many files lie in a folder of their own, up to four deep.
const FOLDER: usize = 40;
/// How many of the files are large.
const LARGE: usize = 20;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        for _ in 0..=self.below(10) {
            // Writing to a string cannot fail.
            let _ = write!(line, "word{} ", self.below(3_000));
        }
        line.push('\n');
        line
    }

    fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }
}

#[derive(Clone)]
struct File {
    path: String,
    mode: &'static str,
    lines: Vec<String>,
}

fn files(numbers: &mut Numbers) -> Vec<File> {
    let mut files = vec![
        File {
            path: ".gitattributes".into(),
            mode: "100644",
            lines: vec!["*.txt text=auto\n".into(), "*.bin binary\n".into()],
        },
        File {
            path: ".gitignore".into(),
            mode: "100644",
            lines: vec!["*.log\n".into(), "/build/\n".into()],
        },
    ];
    for number in 0..FILES {
        let group = number / FOLDER;
        let mut path = format!("part{}/", group % 12);
        for depth in 0..group % 4 {
            let _ = write!(path, "level{depth}-{}/", group / 12);
        }
        let large = number % (FILES / LARGE) == 7;
        let (name, mode, count) = match number {
            _ if large => ("bin", "100644", 12_000 + numbers.below(25_000)),
            _ if number % 100 == 3 => ("link", "120000", 0),
            _ if number % 50 == 9 => ("sh", "100755", 5 + numbers.below(100)),
            _ => ("txt", "100644", 5 + numbers.below(150)),
        };
        let lines = match mode {
            "120000" => vec![format!("target{}", numbers.below(1000))],
            _ => numbers.lines(count),
        };
        files.push(File { path: format!("{path}file{number}.{name}"), mode, lines });
    }
    files
}

/// A stream for `git fast-import`.
struct Stream<W>(W, i64);

impl<W: Write> Stream<W> {
    fn commit(&mut self, branch: &str, from: Option<&str>) -> std::io::Result<()> {
        self.1 += 60;
        let time = self.1;
        write!(
            self.0,
            "commit refs/heads/{branch}\ncommitter C <c@example.org> {time} +0000\ndata 7\nChange\n\n"
        )?;
        from.map_or(Ok(()), |from| writeln!(self.0, "from refs/heads/{from}"))
    }

    fn put(&mut self, file: &File) -> std::io::Result<()> {
        let length: usize = file.lines.iter().map(String::len).sum();
        writeln!(self.0, "M {} inline {}\ndata {length}", file.mode, file.path)?;
        for line in &file.lines {
            self.0.write_all(line.as_bytes())?;
        }
        writeln!(self.0)
    }
}

/// Fills a bare repository. Branches: `main`, and `before`, which is 1,000 commits older; `near`,
/// where 20 files differ from `main`; `far`, where all do, and some are gone or new; `ours` and
/// `theirs`, which merge cleanly, with 300 files changed by each, 50 of them by both, and 50
/// renamed by one.
pub(super) fn generate(bare: &Path) -> Result<(), Failure> {
    let mut import = git(bare, &["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    let pipe = import.stdin.take().ok_or("git takes no input")?;
    write(&mut Stream(BufWriter::new(pipe), 1_700_000_000))?;
    if !import.wait()?.success() {
        return Err("git fast-import failed".into());
    }
    ask(bare, &["repack", "-a", "-d", "-q"])?;
    ask(bare, &["pack-refs", "--all"])?;
    Ok(())
}

fn write(stream: &mut Stream<impl Write>) -> std::io::Result<()> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut files = files(&mut numbers);
    stream.commit("before", None)?;
    for file in &files {
        stream.put(file)?;
    }
    // Large ones are binary by their attribute, and would not merge.
    let is_text = |file: &File| (5..1_000).contains(&file.lines.len());
    let texts: Vec<_> = (0..files.len()).filter(|at| is_text(&files[*at])).collect();
    for commit in 0..COMMITS {
        stream.commit("main", (commit == 0).then_some("before"))?;
        for _ in 0..3 {
            let file = &mut files[texts[numbers.below(texts.len())]];
            let at = numbers.below(file.lines.len());
            file.lines[at] = numbers.line();
            stream.put(file)?;
        }
    }

    stream.commit("near", Some("main"))?;
    for at in 0..20 {
        let mut file = files[texts[at * 97]].clone();
        file.lines[2] = numbers.line();
        stream.put(&file)?;
    }
    stream.commit("far", Some("main"))?;
    for (number, file) in files.iter().enumerate().skip(2) {
        if number % 25 == 0 {
            writeln!(stream.0, "D {}", file.path)?;
            continue;
        }
        let mut file = file.clone();
        match file.mode {
            "120000" => file.lines[0].push('x'),
            _ => file.lines[1] = numbers.line(),
        }
        if number % 25 == 1 {
            writeln!(stream.0, "D {}", file.path)?;
            file.path = format!("new/{}", file.path);
        }
        stream.put(&file)?;
    }

    for (branch, begin, line) in [("ours", 0, 0), ("theirs", 250, 4)] {
        stream.commit(branch, Some("main"))?;
        for at in begin..begin + 300 {
            let mut file = files[texts[at * 7]].clone();
            file.lines[line] = numbers.line();
            if branch == "theirs" && at % 5 == 0 && at >= 300 {
                writeln!(stream.0, "D {}", file.path)?;
                file.path = format!("moved/{}", file.path);
            }
            stream.put(&file)?;
        }
    }
    stream.0.flush()
}
