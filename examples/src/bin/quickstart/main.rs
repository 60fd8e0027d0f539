//! The whole life of an application in under a minute, with real parts and no services: pull,
//! deploy, back up, update, fail, restore, die, recover.
//!
//! `scripts/quickstart`; `--json` prints one JSON object of it all, `--keep`
//! leaves the files there to be looked at. Begin to read in `chapters`.

mod chapters;
mod companion;
mod narrator;
mod scene;
mod verbs;
mod versions;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ops_core::Report;
use ops_examples::Failure;
use ops_logging::{LogGuard, Logging};
use serde_json::{Value, json};

use chapters::{back_up, break_it, first_version, kill_it, restore, summary, update};
use narrator::Narrator;
use scene::Scene;

/// The whole life of an application in under a minute.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Args {
    /// Print one JSON object on the standard output; the story goes to the standard error.
    #[arg(long)]
    json: bool,
    /// Leave the folder there.
    #[arg(long)]
    keep: bool,
    /// Play in this folder, which must be empty or absent, and leave it there.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<verbs::Verb>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.verb {
        Some(verb) => verb.run().await,
        None => play(args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "quickstart: {failure}");
            ExitCode::from(failure.code().number())
        }
    }
}

async fn play(args: Args) -> Result<(), Failure> {
    let begun = Instant::now();
    let (dir, scratch) = folder(args.dir, args.keep)?;
    let _log = log(&dir)?;
    let mut told = Told::default();
    let story = story(&dir, Narrator::new(args.json), &mut told);
    let ended = tokio::select! {
        ended = story => ended,
        _ = tokio::signal::ctrl_c() => Err(Failure::unexpected("interrupted")),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = std::io::stdout();
    if args.json {
        let failure = ended.as_ref().err().map(Failure::to_json);
        let kept = scratch.is_none();
        writeln!(
            out,
            "{}",
            json!({
                "ok": ended.is_ok(),
                "seconds": seconds,
                "directory": dir,
                "kept": kept,
                "chapters": told.chapters,
                "reports": told.reports,
                "failure": failure,
            })
        )?;
    } else if ended.is_ok() {
        let left = match &scratch {
            Some(_) => "The folder is removed now; --keep leaves it there.".to_owned(),
            None => format!("Everything lies in {}.", dir.display()),
        };
        writeln!(out, "\nDone in {seconds:.1} s. {left}")?;
    }
    ended
}

/// What has been told so far.
#[derive(Debug, Default)]
struct Told {
    chapters: Vec<Value>,
    reports: Vec<Report>,
}

impl Told {
    fn add(&mut self, title: &str, told: &Value) {
        self.chapters.push(json!({"chapter": title, "told": told}));
    }
}

async fn story(dir: &Path, narrator: Narrator, told: &mut Told) -> Result<(), Failure> {
    let (mut scene, versions) = Scene::set(dir, narrator).await?;
    let ended = chapters(&mut scene, &versions, told).await;
    told.reports = scene.reports.reports();
    scene.end().await;
    ended
}

async fn chapters(
    scene: &mut Scene,
    versions: &versions::Versions,
    told: &mut Told,
) -> Result<(), Failure> {
    scene.narrator.section("Pull the first version, and deploy it");
    told.add("first version", &first_version::tell(scene, versions).await?);

    scene.narrator.section("Back the database up");
    told.add("backup", &back_up::tell(scene).await?);

    scene.narrator.section("Update: pull, write, back up and deploy as one operation");
    told.add("update", &update::tell(scene, &versions.second).await?);

    scene.narrator.section("Update to a version that is broken");
    told.add("broken update", &break_it::tell(scene, versions).await?);

    scene.narrator.section("Damage the database, and restore it");
    told.add("restore", &restore::tell(scene).await?);

    scene.narrator.section("Kill an update in the middle, and recover");
    told.add("kill", &kill_it::tell(scene, versions).await?);

    scene.narrator.section("The same update again, undisturbed");
    told.add("update again", &update::tell(scene, &versions.mended).await?);

    scene.narrator.section("What was reported");
    summary::tell(scene);
    Ok(())
}

/// The folder to play in, and what removes it at the end.
fn folder(
    dir: Option<PathBuf>,
    keep: bool,
) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    if let Some(dir) = dir {
        let name = dir.display();
        let unusable = |e| Failure::usage(format!("`{name}` cannot be played in: {e}"));
        std::fs::create_dir_all(&dir).map_err(unusable)?;
        if std::fs::read_dir(&dir).map_err(unusable)?.next().is_some() {
            return Err(Failure::usage(format!("`{name}` is not empty; name a new folder")));
        }
        return Ok((dir.canonicalize()?, None));
    }
    let scratch = tempfile::Builder::new().prefix("quickstart-").tempdir()?;
    let path = scratch.path().canonicalize()?;
    if keep {
        let _ = scratch.keep();
        return Ok((path, None));
    }
    Ok((path, Some(scratch)))
}

fn log(dir: &Path) -> Result<LogGuard, Failure> {
    Ok(Logging::builder().directory(dir.join("log")).file_prefix("quickstart").install()?)
}
