//! Restores of databases that are undone after they were committed, and roles that restores create.

use ops_backup::{DatabaseOptions, SqlProbe};

use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_database_that_a_restore_kept_has_its_name_back() {
    let server = Server::with("CREATE TABLE guests (id int); INSERT INTO guests VALUES (1)").await;
    let made = server.back_up().await;
    server.sql(&server.name, "INSERT INTO guests VALUES (2)").await;
    let first = server.restore(&made, &server.name, &DatabaseOptions::default()).await.unwrap();
    let count = "SELECT count(*) FROM guests";
    assert_eq!(server.ask(&server.name, count).await, "1");
    let place = server.vault.database(&server.url()).await.unwrap();
    let plan = server.vault.plan_undo_database_restore(&place, first.id).unwrap();
    assert!(plan.to_string().contains("end all sessions in database"), "{plan}");
    let undone = server.cx.execute(plan.clone(), &&place).await.unwrap();
    assert_eq!(server.ask(&server.name, count).await, "2");
    assert_eq!(server.ask(&place.old(undone.id), count).await, "1");
    assert_eq!(server.databases().await.len(), 2);
    // What the first kept is in its place now; what the undo kept can be had back; then it is gone.
    let error = server.cx.execute(plan, &&place).await.unwrap_err().to_string();
    assert!(
        error.contains("is gone: there is no database") && error.contains(&place.old(first.id)),
        "{error}"
    );
    let again = server.vault.plan_undo_database_restore(&place, undone.id).unwrap();
    server.cx.execute(again.clone(), &&place).await.unwrap();
    assert_eq!(server.ask(&server.name, count).await, "1");
    assert!(server.cx.execute(again, &&place).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_missing_are_created_by_plan_and_go_with_a_restore_that_goes_back() {
    let server = Server::with(
        "CREATE ROLE \"ROLE gone\" LOGIN SUPERUSER PASSWORD 'plain'; CREATE ROLE \"ROLE stays\";
        CREATE TABLE guests (id int); ALTER TABLE guests OWNER TO \"ROLE gone\";
        CREATE TABLE others (id int); ALTER TABLE others OWNER TO \"ROLE stays\";",
    )
    .await;
    let made = server.back_up().await;
    server
        .script(&server.named("ALTER TABLE guests OWNER TO CURRENT_USER; DROP ROLE \"ROLE gone\""));
    let gone = format!("{} gone", server.name);
    let other = format!("{}_other", server.name);
    let options = DatabaseOptions::default().create_roles();
    let place = server.vault.database(&server.url_of(&other)).await.unwrap();
    let plan = server.vault.plan_database_restore("pg", made.id, &place, &options).await.unwrap();
    assert_eq!(plan.facts["roles"], gone);
    assert!(plan.to_string().contains("create roles without login and password"), "{plan}");
    let role = format!(
        "SELECT coalesce((SELECT rolcanlogin || ' ' || rolsuper || ' ' || (rolpassword IS NULL)
            FROM pg_authid WHERE rolname = '{gone}'), 'none')"
    );
    // It goes back, and the role with it.
    let bad = SqlProbe::new("bad", "SELECT false");
    let error = server.restore(&made, &other, &options.clone().probe(bad)).await.unwrap_err();
    assert!(error.to_string().contains("probe `bad`"), "{error}");
    assert_eq!(server.ask("postgres", &role).await, "none");
    server.restore(&made, &other, &options).await.unwrap();
    assert_eq!(server.ask("postgres", &role).await, "false false true");
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'guests'";
    assert_eq!(server.ask(&other, owner).await, gone);
    // Now it is there, and nothing is to be created.
    let plan = server.vault.plan_database_restore("pg", made.id, &place, &options).await.unwrap();
    assert!(!plan.facts.contains_key("roles"), "{plan}");
}
