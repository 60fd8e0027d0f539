//! Names of versions.

use ops_git::ErrorKind;

use crate::fixture::{World, git};

#[tokio::test]
async fn versions_are_listed_with_their_tags() {
    let world = World::new();
    let first = world.head();
    git(&world.work(), &["tag", "v1"]);
    git(&world.work(), &["tag", "-a", "-m", "the same", "v1-signed"]);
    let second = world.commit("b.txt", "two\n");
    world.push();
    let mirror = world.mirror();
    assert!(mirror.versions(10).await.unwrap().is_empty());
    mirror.safe_pull(&world.cx()).await.unwrap();

    let versions = mirror.versions(10).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[0].commit.as_str(), second);
    assert_eq!(versions[0].version.as_str(), &second[..7]);
    assert_eq!(versions[0].subject, "Write b.txt");
    assert_eq!(versions[0].author, "A U Thor <author@example.org>");
    assert_eq!(versions[0].date.as_second(), 1_700_000_000);
    assert_eq!(versions[1].commit.as_str(), first);
    assert_eq!(versions[1].tags, ["v1", "v1-signed"]);
    assert!(versions[1].shared_with.is_empty());
    assert_eq!(mirror.versions(1).await.unwrap().len(), 1);

    for name in
        ["main", "HEAD", "origin/main", "refs/heads/main", &second, &second[..7], &second[..4]]
    {
        assert_eq!(mirror.resolve(name).await.unwrap().as_str(), second, "{name}");
    }
    for name in ["v1", "v1-signed", "refs/tags/v1", &first.to_uppercase()] {
        assert_eq!(mirror.resolve(name).await.unwrap().as_str(), first, "{name}");
    }
    let tree = git(&world.work(), &["rev-parse", "HEAD^{tree}"]);
    for name in ["nothing", "", "abc", "0000000", "a b", "../x", "v1^{tree}", &tree, &tree[..10]] {
        let error = mirror.resolve(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
    }
    let version = versions[0].version.clone();
    let before = mirror.previous(&version).await.unwrap().unwrap();
    assert_eq!(before.as_str(), &first[..7]);
    assert_eq!(mirror.previous(&before).await.unwrap(), None);
}

#[tokio::test]
async fn a_short_id_of_two_commits_is_refused_with_both() {
    let world = World::new();
    // Of 1,500 commits some share 4 digits: that they do not has a chance of e^-17.
    let mut script = String::new();
    for i in 0..1500 {
        let time = 1_700_000_000 + i;
        let who = "C <c@example.org>";
        script += &["commit refs/heads/main\ncommitter ", who, " ", &time.to_string()].concat();
        script += &[" +0000\ndata <<E\nc", &i.to_string(), "\nE\n"].concat();
    }
    std::fs::write(world.work().join(".git/script"), script).unwrap();
    let import = std::fs::File::open(world.work().join(".git/script")).unwrap();
    let done = crate::fixture::command(&world.work(), &["fast-import", "--quiet", "--force"])
        .stdin(import)
        .status()
        .unwrap();
    assert!(done.success());
    let all = git(&world.work(), &["rev-list", "main"]);
    let mut ids: Vec<_> = all.lines().collect();
    ids.sort_unstable();
    let twins = ids.windows(2).find(|pair| pair[0][..4] == pair[1][..4]).unwrap();
    git(&world.work(), &["push", "-q", "--force", "origin", "main"]);
    let mirror = world.mirror();
    mirror.safe_pull(&world.cx()).await.unwrap();
    let error = mirror.resolve(&twins[0][..4]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(
        error.to_string().contains(twins[0]) && error.to_string().contains(twins[1]),
        "{error}"
    );
}

#[tokio::test]
async fn a_name_of_a_branch_and_of_a_tag_is_refused_unless_they_agree() {
    let world = World::new();
    git(&world.work(), &["tag", "both"]);
    let tagged = world.head();
    let later = world.commit("b.txt", "two\n");
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/both"]);
    world.push();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    let options = ops_git::PullOptions::default().branch("both".parse().unwrap());
    let plan = mirror.plan_pull(&cx, options).await.unwrap();
    mirror.execute(plan, &cx).await.unwrap();
    let error = mirror.resolve("both").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.to_string().contains(&tagged) && error.to_string().contains(&later), "{error}");
    assert_eq!(mirror.resolve("refs/tags/both").await.unwrap().as_str(), tagged);
}
