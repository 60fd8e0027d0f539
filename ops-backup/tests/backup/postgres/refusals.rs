//! What a restore refuses, and that it goes back.

use ops_backup::{DatabaseOptions, ErrorKind, Manifest, SourceSpec, SqlProbe};
use ops_core::{ApproveIf, ApproveNothing, Context, Environment};
use sqlx::Connection as _;

use super::server::Server;

async fn guests() -> (Server, Manifest) {
    let server =
        Server::with("CREATE TABLE guests (id int); INSERT INTO guests VALUES (1), (2)").await;
    let made = server.back_up().await;
    server.sql(&server.name, "INSERT INTO guests VALUES (3)").await;
    (server, made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_probe_leaves_everything_as_it_was() {
    let (server, made) = guests().await;
    let good = SqlProbe::new("some", "SELECT count(*) = 2 FROM public.guests");
    for bad in [
        "SELECT count(*) = 3 FROM public.guests",
        "SELECT NULL::bool",
        "DELETE FROM public.guests RETURNING true",
        "nonsense",
    ] {
        let options =
            DatabaseOptions::default().probe(good.clone()).probe(SqlProbe::new("bad", bad));
        let error = server.restore(&made, &server.name, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Operation);
        assert!(error.to_string().contains("probe `bad`"), "{error}");
        assert_eq!(server.databases().await, [""], "the new one is gone");
        assert_eq!(server.ask(&server.name, "SELECT count(*) FROM guests").await, "3");
    }
    let options = DatabaseOptions::default().probe(good);
    // Whoever is connected does not keep it from being replaced.
    let mut session = server.connect(&server.name).await;
    server.restore(&made, &server.name, &options).await.unwrap();
    assert!(session.ping().await.is_err(), "the sessions in the old one were ended");
    assert_eq!(server.ask(&server.name, "SELECT count(*) FROM guests").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_target_is_refused_with_every_reason_at_once() {
    let (server, made) = guests().await;
    let other = format!("{}_other", server.name);
    server.sql("postgres", &format!("CREATE DATABASE {other}")).await;
    let options = DatabaseOptions::default().expect_target("123/elsewhere");
    let staging = Context::builder(server.dir.path().join("staging"))
        .environment(Environment::Staging)
        .approver(ApproveIf::new("test", |_: &_| true));
    let place = server.vault.database(&server.url_of(&other)).await.unwrap();
    let cx = staging.build();
    let restore = server.vault.restore_database("pg", made.id, &place, &options, &cx);
    let error = restore.await.unwrap_err();
    let told = error.to_string();
    let fingerprint = &made.sources[0].fingerprint;
    assert!(fingerprint.ends_with(&format!("/{}", server.name)));
    for part in [
        "made in development, this is staging".to_owned(),
        "not the configured `123/elsewhere`".to_owned(),
        format!("the backup is of `{fingerprint}`, the target is `{}`", place.fingerprint()),
        // Each with its remedy.
        "choose a backup of this environment, or allow another in the options".to_owned(),
        "check which server the address leads to".to_owned(),
        "restore under a name that does not exist, or allow another source".to_owned(),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
    // Allowed, and of nothing else.
    let allowed = DatabaseOptions::default().allow_other_source();
    server.restore(&made, &other, &allowed.expect_target(place.fingerprint())).await.unwrap();
    assert_eq!(server.ask(&other, "SELECT count(*) FROM guests").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn production_is_not_restored_without_an_approval() {
    let (server, _) = guests().await;
    let cx = |environment| {
        let cx = Context::builder(server.dir.path().join("state")).environment(environment);
        cx.approver(ApproveNothing).build()
    };
    let production = cx(Environment::Production);
    let place = server.vault.database(&server.url()).await.unwrap();
    let made = server.back_up().await;
    for cx in [production, cx(Environment::Development)] {
        let options = DatabaseOptions::default().allow_other_environment();
        let restore = server.vault.restore_database("pg", made.id, &place, &options, &cx).await;
        let error = restore.unwrap_err();
        assert_eq!(error.report().unwrap().outcome.name(), "refused");
        assert!(error.to_string().contains("approve"), "{error}");
    }
    assert_eq!(server.databases().await, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lacks_is_told_before_anything_is_made() {
    let (server, _) = guests().await;
    server.script(&server.named(
        "CREATE ROLE \"ROLE gone\"; ALTER TABLE guests OWNER TO \"ROLE gone\";
        CREATE ROLE \"ROLE set\"; ALTER ROLE \"ROLE set\" IN DATABASE \"BASE\" SET work_mem TO '5MB';",
    ));
    let made = server.back_up().await;
    server.script(&server.named(
        "ALTER TABLE guests OWNER TO CURRENT_USER; DROP ROLE \"ROLE gone\"; DROP ROLE \"ROLE set\";",
    ));
    let error = server.restore(&made, &server.name, &DatabaseOptions::default()).await.unwrap_err();
    let lacks = format!("the server lacks roles: {0} gone, {0} set", server.name);
    assert!(error.to_string().contains(&lacks), "{error}");
    assert!(error.to_string().contains("let the restore create them"), "{error}");
    assert_eq!(server.databases().await, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_see_the_disk_must_be_told_that_there_is_room() {
    let (server, made) = guests().await;
    server.script(&server.named(
        "CREATE ROLE \"ROLE maker\" LOGIN CREATEDB PASSWORD 'plain'; GRANT CREATE ON DATABASE \"BASE\" TO \"ROLE maker\";",
    ));
    let maker = format!("{} maker", server.name);
    let url = server.url_as(&maker, &server.name);
    let place = server.vault.database(&url).await.unwrap();
    let options = DatabaseOptions::default();
    let restore = server.vault.restore_database("pg", made.id, &place, &options, &server.cx);
    let told = restore.await.unwrap_err().to_string();
    assert!(told.contains("how much room the server has cannot be told"), "{told}");
    assert!(told.contains("look at the server, then allow unknown space"), "{told}");
    assert!(told.contains("may not rename database"), "{told}");
    assert!(told.contains("make it the owner, with CREATEDB"), "{told}");
    assert_eq!(server.databases().await, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_no_file_and_a_file_no_database() {
    let (server, made) = guests().await;
    assert!(server.vault.place(&server.spec()).is_err());
    let data = server.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let files =
        server.vault.create("files", &[SourceSpec::directory(&data)], &server.cx).await.unwrap();
    let place = server.vault.database(&server.url()).await.unwrap();
    let options = DatabaseOptions::default();
    let plan = server.vault.plan_database_restore("files", files.id, &place, &options).await;
    assert!(plan.unwrap_err().to_string().contains("which database"));
    let plan = server.vault.plan_database_restore("pg", made.id, &place, &options).await.unwrap();
    assert!(plan.to_string().contains("end all sessions in database"), "{plan}");
    assert!(!plan.to_string().contains("plain"), "no secret");
    let drill = server.vault.drill("pg", made.id, &server.cx).await.unwrap_err();
    assert!(drill.to_string().contains("cannot be restored into a folder"), "{drill}");
}
