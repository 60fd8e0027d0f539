//! `crash-update DIR update|recover`: the composed update that the crash test kills.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ops_core::{ApproveIf, Context, Environment};
use ops_examples::Failure;
use ops_examples::managed_app::ManagedApp;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory"));
    let verb = args.next().expect("a verb");
    match run(&dir, &verb).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code().number())
        }
    }
}

async fn run(dir: &Path, verb: &str) -> Result<(), Failure> {
    let guestbook = std::env::current_exe()?.with_file_name("guestbook");
    let guestbook = guestbook.to_str().expect("a path in UTF-8");
    let public = std::fs::read_to_string(dir.join("public"))?.parse()?;
    let app = ManagedApp::open(dir, &dir.join("upstream.git"), &[guestbook], public).await?;
    let cx = Context::builder(dir.join("state"))
        .program("crash-update")
        .environment(Environment::Production)
        .approver(ApproveIf::new("crash test", |_: &_| true))
        .build();
    if verb == "recover" {
        let _ = ops_core::recover(&app.world(), &cx).await?;
    } else {
        cx.execute(app.plan_update(&cx).await?, &app.world()).await?;
    }
    Ok(())
}
