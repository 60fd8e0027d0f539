//! Exports, against what `git archive` puts into a folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use ops_core::Outcome;
use ops_git::{ErrorKind, GitRepository};

use crate::fixture::{World, chain, command, git};

/// Everything below a folder: its kind, executable bit and bytes.
fn snapshot(root: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let value = if meta.is_dir() {
                left.push(path);
                ("folder".to_owned(), Vec::new())
            } else if meta.is_symlink() {
                let target = path.read_link().unwrap().into_os_string().into_encoded_bytes();
                ("link".to_owned(), target)
            } else {
                (format!("file {:o}", meta.permissions().mode() & 0o111), fs::read(&path).unwrap())
            };
            found.insert(name, value);
        }
    }
    found
}

fn head(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

fn baseline(world: &World, commit: &str, to: &Path) {
    fs::create_dir(to).unwrap();
    let archive = world.dir.path().join("baseline.tar");
    let out = fs::File::create(&archive).unwrap();
    let done = command(&world.mirror_path(), &["-c", "tar.umask=0022", "archive", commit])
        .stdout(out)
        .status()
        .unwrap();
    assert!(done.success());
    assert!(
        Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(to).status().unwrap().success()
    );
}

fn varied(world: &World) -> String {
    let work = world.work();
    let write = |path: &str, content: &[u8]| {
        fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
        fs::write(work.join(path), content).unwrap();
    };
    write(
        ".gitattributes",
        b"*.bat text eol=crlf\n*.id ident\n*.u16 text working-tree-encoding=UTF-16LE\n\
          *.bom text working-tree-encoding=UTF-16\n\
          *.big text working-tree-encoding=utf-16be\n\
          *.latin text working-tree-encoding=ISO-8859-1\n\
          /secret export-ignore\n*.internal export-ignore\n*.bin -text\n",
    );
    write("run.sh", b"#!/bin/sh\necho hello\n");
    fs::set_permissions(work.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    write("win.bat", b"echo one\r\necho two\r\n");
    write("keyword.id", b"$Id$\n");
    write("wide.u16", &"größe\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    write("marked.bom", b"\xff\xfea\0\xe4\0\n\0");
    write("wide.big", &"größe\n".encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    write("narrow.latin", b"gr\xf6\xdfe\n");
    write("expanded.id", b"$Id: a.c,v 1 joe $ $Id$\n");
    write("data.bin", &(0..=255).cycle().take(300_000).collect::<Vec<u8>>());
    write("secret/key", b"not for deployment\n");
    write("deep/er/est/x.internal", b"neither\n");
    write("deep/er/est/y", b"this one\n");
    write("deep/.gitattributes", b"win.bat -text\n");
    write("deep/win.bat", b"left\nalone\n");
    write("a space/ümlaut", b"utf-8\n");
    write("empty", b"");
    std::os::unix::fs::symlink("../run.sh", work.join("deep/link")).unwrap();
    std::os::unix::fs::symlink("nowhere", work.join("dangling")).unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "varied"]);
    world.push();
    world.head()
}

#[tokio::test]
async fn an_export_is_what_git_archive_writes() {
    let world = World::new();
    let commit = varied(&world);
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();

    let expected = world.dir.path().join("expected");
    baseline(&world, &commit, &expected);
    let folder = world.dir.path().join("releases/one");
    let report = mirror
        .export(&cx, &commit[..7], &folder)
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(report.outcome, Outcome::Completed);
    for when in ["before", "after"] {
        let note = format!("sha verified {when}: {}", &commit[..7]);
        assert!(report.notes.keys().any(|key| key.contains(&note)), "{:?}", report.notes);
    }
    assert_eq!(report.version.unwrap().as_str(), &commit[..7]);
    let (ours, theirs) = (snapshot(&folder), snapshot(&expected));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, value) in &ours {
        let (kind, bytes) = &theirs[name];
        assert_eq!(value.0, *kind, "{name}");
        assert!(value.1 == *bytes, "{name}: {:?}, git has {:?}", head(&value.1), head(bytes));
    }
    assert_eq!(fs::read(folder.join("win.bat")).unwrap(), b"echo one\r\necho two\r\n");
    assert!(!folder.join("secret").exists());

    // Nothing else is left beside it.
    let beside: Vec<_> = fs::read_dir(folder.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1);
}

#[tokio::test]
async fn a_filter_of_the_repository_is_run_and_a_failing_one_leaves_nothing() {
    let world = World::new();
    fs::write(world.work().join(".gitattributes"), "*.up filter=up\n").unwrap();
    let commit = world.commit("a.up", "text\n");
    world.push();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    git(&world.mirror_path(), &["config", "filter.up.smudge", "tr a-z A-Z"]);
    git(&world.mirror_path(), &["config", "filter.up.required", "true"]);
    let folder = world.dir.path().join("one");
    mirror.export(&cx, &commit, &folder).await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("a.up")).unwrap(), "TEXT\n");

    git(&world.mirror_path(), &["config", "filter.up.smudge", "false"]);
    let folder = world.dir.path().join("two");
    let error = mirror.export(&cx, &commit, &folder).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operation);
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }));
    assert!(chain(&error).contains("a.up") || format!("{:?}", error.report()).contains("a.up"));
    assert!(!folder.exists());
    let left = fs::read_dir(world.dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("ops-git-"))
        .count();
    assert_eq!(left, 0);
}

type Change = fn(&Path);

#[tokio::test]
async fn a_complete_export_is_recognised_and_a_foreign_folder_refused() {
    let world = World::new();
    let commit = varied(&world);
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    let folder = world.dir.path().join("one");
    mirror.export(&cx, "main", &folder).await.unwrap();

    let plan = mirror.plan_export(&commit, &folder).await.unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.facts["result"], "already exported");

    let changes: [(&str, Change); 5] = [
        ("surplus", |folder| fs::write(folder.join("surplus"), "").unwrap()),
        ("empty", |folder| fs::write(folder.join("empty"), "x").unwrap()),
        ("run.sh", |folder| {
            fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("dangling", |folder| fs::remove_file(folder.join("dangling")).unwrap()),
        ("deep/er", |folder| fs::remove_dir_all(folder.join("deep/er")).unwrap()),
    ];
    for (name, change) in changes {
        let folder = world.dir.path().join(name.replace('/', "-"));
        mirror.export(&cx, &commit, &folder).await.unwrap();
        change(&folder);
        let before = snapshot(&folder);
        let error = mirror.export(&cx, &commit, &folder).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
        assert!(error.to_string().contains(name), "{error}");
        assert!(before == snapshot(&folder));
    }
}

/// Makes a commit whose root tree has these entries, without git's own checks.
fn hostile(world: &World, entries: &[(&str, &str, &[u8])]) -> String {
    let work = world.work();
    let mut tree = Vec::new();
    for (mode, name, content) in entries {
        let id = if *mode == "160000" {
            world.head()
        } else {
            let file = world.dir.path().join("blob");
            fs::write(&file, content).unwrap();
            git(&work, &["hash-object", "-w", "--no-filters", file.to_str().unwrap()])
        };
        tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        tree.extend((0..40).step_by(2).map(|i| u8::from_str_radix(&id[i..i + 2], 16).unwrap()));
    }
    let file = world.dir.path().join("tree");
    fs::write(&file, tree).unwrap();
    let file = file.to_str().unwrap();
    let tree = git(&work, &["hash-object", "-w", "--literally", "-t", "tree", file]);
    git(&work, &["commit-tree", "-m", "hostile", &tree])
}

#[tokio::test]
async fn hostile_trees_are_refused_with_every_reason_and_write_nothing() {
    let world = World::new();
    let commit = hostile(
        &world,
        &[
            ("100644", "..", b"x"),
            ("100644", ".GIT", b"x"),
            ("120000", "absolute", b"/etc/passwd"),
            ("120000", "above", b"../outside"),
            ("100644", "fine", b"x"),
            ("120000", "inside", b"fine"),
            ("160000", "module", b""),
            ("100644", "twice", b"x"),
            ("120000", "twice", b"fine"),
        ],
    );
    let repository = GitRepository::open(world.work()).unwrap();
    let folder = world.dir.path().join("out");
    let error = repository.export(&world.cx(), &commit, &folder).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hostile, "{}", chain(&error));
    assert_eq!(error.reasons().len(), 6, "{error}");
    let text = error.to_string();
    for part in ["`..`", "`.GIT`", "`absolute`", "`above`", "`module` is a submodule", "`twice`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("`inside`"));
    assert!(!folder.exists());
}
