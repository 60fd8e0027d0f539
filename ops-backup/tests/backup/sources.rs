//! Programs, files, and directories of which not everything is wanted.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use object_store::memory::InMemory;
use ops_backup::{Command, ErrorKind, RestoreOptions, Source as _, SourceSpec};

use crate::fixture::{lenient, scratch, tree, vault};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_prints_is_a_backup_if_it_ends_well() {
    let dir = scratch();
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    let sh = |script: &str| SourceSpec::command(["sh", "-c", script]);
    let seq = [SourceSpec::command(["seq", "200000"])];
    let made = vault.create("seq", &seq, &cx).await.unwrap();
    assert!(vault.drill("seq", made.id, &cx).await.unwrap().whole);
    assert_eq!(vault.create("seq", &seq, &cx).await.unwrap().uploaded(), 0);
    let file = dir.path().join("numbers");
    let place = vault.place(&SourceSpec::file(&file)).unwrap();
    let options = RestoreOptions::default();
    vault.restore("seq", made.id, &place, &options, &cx).await.unwrap();
    let mut expected = (1..=200_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
    expected.push('\n');
    assert!(fs::read_to_string(&file).unwrap() == expected);

    // All of it is there, and yet it failed; or it was killed; or it is no program.
    for (script, why) in [
        ("seq 100000; echo it broke >&2; exit 3", "it broke"),
        ("seq 100000; kill -9 $$", "signal: 9"),
    ] {
        let error = vault.create("bad", &[sh(script)], &cx).await.unwrap_err();
        let chain = ops_core::error::chain(&error).join(": ");
        assert!(chain.contains(why), "{chain}");
    }
    let none = [SourceSpec::command(["no-such-program-anywhere"])];
    let error = vault.create("bad", &none, &cx).await.unwrap_err();
    assert!(error.to_string().contains("there is no program"), "{error}");
    assert!(vault.list("bad").await.unwrap().is_empty());

    // A file is a source of its own.
    let again = vault.create("file", &[SourceSpec::file(&file)], &cx).await.unwrap();
    fs::write(&file, "damaged").unwrap();
    vault.restore("file", again.id, &place, &options, &cx).await.unwrap();
    assert!(fs::read_to_string(&file).unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_ends_with_the_stream_that_nobody_reads() {
    let dir = scratch();
    let pid = dir.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; yes", pid.display());
    let source = Command::new(["sh", "-c", &script]);
    let unit = source.plan().await.unwrap().remove(0);
    let id = "01JD2Q5W3V8Y7K6M4N9P0R1S2T".parse().unwrap();
    let mut bytes = source.dump(&unit, id).await.unwrap().bytes;
    assert!(!bytes.next().await.unwrap().unwrap().is_empty());
    drop(bytes);
    let number = fs::read_to_string(&pid).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while fs::exists(format!("/proc/{}", number.trim())).unwrap() {
        assert!(Instant::now() < until, "it runs on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn globs_say_what_of_a_directory_is_backed_up() {
    let dir = scratch();
    let data = dir.path().join("data");
    for folder in ["src/deep", "cache/deep", "empty"] {
        fs::create_dir_all(data.join(folder)).unwrap();
    }
    for file in ["src/a.rs", "src/deep/b.rs", "src/deep/b.log", "cache/deep/c.rs", "d.txt"] {
        fs::write(data.join(file), file).unwrap();
    }
    // What is excluded may be what could not be backed up.
    let _socket = std::os::unix::net::UnixListener::bind(data.join("cache/sock")).unwrap();
    let vault = vault(Arc::new(InMemory::new())).await;
    let cx = lenient(&dir.path().join("state"));
    let names = |to: &str| -> Vec<_> {
        let tree = tree(&dir.path().join(to));
        tree.into_keys().map(|path| path.to_str().unwrap().to_owned()).collect()
    };
    let spec = || SourceSpec::directory(&data);
    for (spec, to, expected) in [
        (
            spec().exclude("/cache").exclude("*.log"),
            "one",
            &["", "d.txt", "empty", "src", "src/a.rs", "src/deep", "src/deep/b.rs"][..],
        ),
        (
            spec().include("*.rs").exclude("cache/"),
            "two",
            &["", "empty", "src", "src/a.rs", "src/deep", "src/deep/b.rs"],
        ),
    ] {
        let made = vault.create("s", &[spec], &cx).await.unwrap();
        assert!(vault.drill("s", made.id, &cx).await.unwrap().whole);
        let place = vault.place(&SourceSpec::directory(dir.path().join(to))).unwrap();
        // A component is named by its directory alone.
        let options = RestoreOptions::default().component(SourceSpec::directory(&data));
        vault.restore("s", made.id, &place, &options, &cx).await.unwrap();
        assert_eq!(names(to), expected);
    }
    // Of what was backed up, a part comes back, with the folders that lead there.
    let made = vault.create("s", &[spec().exclude("/cache")], &cx).await.unwrap();
    let part = async |globs: &[&str], to: &str| {
        let place = vault.place(&SourceSpec::directory(dir.path().join(to))).unwrap();
        let options =
            globs.iter().fold(RestoreOptions::default(), |options, glob| options.only(*glob));
        let options = options.allow_other_source();
        let plan = vault.plan_restore("s", made.id, &place, &options).await?;
        let facts = plan.facts.clone();
        cx.execute(plan, &&place).await.unwrap();
        Ok::<_, ops_backup::Error>(facts)
    };
    let facts = part(&["deep", "d.*"], "part").await.unwrap();
    assert_eq!((&*facts["files"], &*facts["bytes"]), ("3", "32"));
    assert_eq!(facts["comes"], "d.txt, src/deep/b.log, src/deep/b.rs");
    assert_eq!(names("part"), ["", "d.txt", "src", "src/deep", "src/deep/b.log", "src/deep/b.rs"]);
    assert_eq!(
        tree(&dir.path().join("part/src/deep")),
        tree(&data.join("src/deep")),
        "modes and times too"
    );
    let error = part(&["*.py"], "none").await.unwrap_err().to_string();
    assert!(
        error.contains("nothing that `*.py` matches") && error.contains("d.txt, empty, src"),
        "{error}"
    );
    let error = part(&["deep"], "part").await.unwrap_err().to_string();
    assert!(error.contains("a part of a backup does not replace"), "{error}");
    assert!(!dir.path().join("none").exists());
    let bad = [SourceSpec::directory(&data).exclude("[")];
    let error = vault.create("s", &bad, &cx).await.unwrap_err();
    assert!(error.to_string().contains("is no glob"), "{error}");
    assert_ne!(error.kind(), ErrorKind::Source);
}
