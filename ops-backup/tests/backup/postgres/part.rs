//! A part of a database.

use ops_backup::{DatabaseOptions, ErrorKind, SourceSpec};

use super::museum::MUSEUM;
use super::server::Server;

fn only(choices: &[&str]) -> DatabaseOptions {
    let choices = choices.iter().map(|choice| choice.parse().unwrap());
    choices.fold(DatabaseOptions::default(), DatabaseOptions::only)
}

const SHOP: &str = "
    CREATE SCHEMA shop; CREATE SCHEMA \"Odd.One\";
    CREATE TYPE shop.state AS ENUM ('new', 'paid');
    CREATE FUNCTION shop.never() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;
    CREATE TABLE public.people (id serial PRIMARY KEY, name text);
    CREATE TABLE shop.orders (id serial PRIMARY KEY, by int REFERENCES public.people,
        again int REFERENCES shop.orders, state shop.state DEFAULT 'new');
    CREATE TABLE shop.lines (id int, of int NOT NULL, PRIMARY KEY (of, id)) PARTITION BY LIST (of);
    CREATE TABLE shop.lines_1 PARTITION OF shop.lines FOR VALUES IN (1);
    CREATE TABLE shop.lines_all PARTITION OF shop.lines DEFAULT;
    ALTER TABLE shop.lines ADD CONSTRAINT of_order FOREIGN KEY (of) REFERENCES shop.orders;
    COMMENT ON CONSTRAINT of_order ON shop.lines IS 'every line has its order';
    CREATE TABLE \"Odd.One\".\"t \"\"able\" (x int);
    INSERT INTO people (name) VALUES ('ada'), ('bob');
    INSERT INTO shop.orders (by, again) VALUES (1, 2), (2, 1);
    INSERT INTO shop.lines VALUES (1, 1), (1, 2), (2, 2);
    INSERT INTO \"Odd.One\".\"t \"\"able\" VALUES (7);
    CREATE VIEW shop.who AS SELECT name FROM people JOIN shop.orders o ON o.by = people.id;
    CREATE MATERIALIZED VIEW shop.count AS SELECT count(*) AS n FROM shop.lines;
    CREATE TRIGGER never BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.never();
    CREATE EVENT TRIGGER \"ROLE never\" ON sql_drop EXECUTE FUNCTION public.never();
    ALTER EVENT TRIGGER \"ROLE never\" ENABLE ALWAYS;
    SELECT lo_from_bytea(4711, 'x');";

fn shop() -> String {
    let event = "CREATE FUNCTION public.never() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'an event trigger fired'; END $$;";
    format!("{event}{SHOP}")
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_tables_come_with_what_they_need_and_without_what_needs_others() {
    let server = Server::with(&shop()).await;
    let made = server.back_up().await;
    let other = format!("{}_other", server.name);
    let place = server.vault.database(&server.url_of(&other)).await.unwrap();
    let plan = async |options: &DatabaseOptions| {
        server.vault.plan_database_restore("pg", made.id, &place, options).await
    };
    let planned = plan(&only(&["shop"])).await.unwrap();
    assert_eq!(
        planned.facts["tables"],
        "shop.lines_1 (1 rows), shop.lines_all (2 rows), shop.orders (2 rows)"
    );
    let left = &planned.facts["left out"];
    assert!(
        left.starts_with("\"Odd.One\".\"t \"\"able\", public.people, and what depends"),
        "{left}"
    );
    server.restore(&made, &other, &only(&["shop"])).await.unwrap();
    let ask = async |sql: &str| server.ask(&other, sql).await;
    let tables = "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY c.oid::regclass::text) FROM pg_class c
        JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND nspname !~ '^(pg_|info)'";
    assert_eq!(ask(tables).await, "shop.lines shop.lines_1 shop.lines_all shop.orders");
    assert_eq!(ask("SELECT count(*) || ' ' || sum(again) FROM shop.orders").await, "2 3");
    assert_eq!(ask("SELECT n FROM shop.count").await, "3", "the view is filled anew");
    assert_eq!(ask("SELECT to_regclass('shop.who') IS NULL").await, "true", "it needs people");
    let keys = "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint
        WHERE contype = 'f' AND conparentid = 0";
    assert_eq!(ask(keys).await, "of_order orders_again_fkey");
    let comment = "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint
        WHERE conname = 'of_order' AND conparentid = 0";
    assert_eq!(ask(comment).await, "every line has its order");
    assert_eq!(ask("SELECT last_value FROM shop.orders_id_seq").await, "2");
    assert_eq!(
        ask("SELECT string_agg(tgenabled::text, '') FROM pg_trigger WHERE tgname = 'never'").await,
        "O"
    );
    assert_eq!(ask("SELECT string_agg(evtenabled::text, '') FROM pg_event_trigger").await, "A");
    assert_eq!(ask("SELECT count(*) FROM pg_largeobject_metadata").await, "0");
    assert_eq!(server.databases().await, ["", "_other"]);

    // It is not empty now. An empty one may be replaced.
    let error = plan(&only(&["public"])).await.unwrap_err();
    assert!(error.to_string().contains("a part of a backup does not replace database"), "{error}");
    let empty = format!("{}_empty", server.name);
    server.sql("postgres", &format!("CREATE DATABASE {empty}")).await;
    let odd = only(&["\"Odd.One\"", "public.people"]).allow_other_source();
    server.restore(&made, &empty, &odd).await.unwrap();
    let rows =
        "SELECT (SELECT x FROM \"Odd.One\".\"t \"\"able\") || ' ' || (SELECT count(*) FROM people)";
    assert_eq!(server.ask(&empty, rows).await, "7 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_nothing_is_refused_with_the_names_that_there_are() {
    let server = Server::with(&shop()).await;
    let specs = [server.spec(), SourceSpec::postgres_dump(server.url())];
    let made = server.vault.create("pg", &specs, &server.cx).await.unwrap();
    let other = format!("{}_other", server.name);
    let place = server.vault.database(&server.url_of(&other)).await.unwrap();
    for (choice, component, kind, told) in [
        ("nowhere", 0, ErrorKind::NotFound, "schemas with tables: \"Odd.One\", public, shop"),
        ("shop.gone", 0, ErrorKind::NotFound, "tables of that schema: shop.lines, shop.lines_1"),
        ("shop", 1, ErrorKind::InvalidInput, "is one dump, of which no part can be chosen"),
    ] {
        let options = only(&[choice]).component(specs[component].clone());
        let plan = server.vault.plan_database_restore("pg", made.id, &place, &options).await;
        let error = plan.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(told), "{choice}: {error}");
    }
    assert_eq!(server.databases().await, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_the_museum_can_be_chosen_with_its_schema() {
    let server = Server::with(MUSEUM).await;
    let made = server.back_up().await;
    let other = format!("{}_other", server.name);
    server.restore(&made, &other, &only(&["public"])).await.unwrap();
    let spec = [SourceSpec::postgres(server.url_of(&other))];
    let again = server.vault.create("again", &spec, &server.cx).await.unwrap();
    let of_public = |name: &&String| name.starts_with("public.");
    let expected: Vec<_> =
        made.sources[0].tables.iter().filter(|(name, _)| of_public(name)).collect();
    let found: Vec<_> =
        again.sources[0].tables.iter().filter(|(name, _)| of_public(name)).collect();
    assert!(expected.len() > 10 && expected == found, "{expected:?}\n{found:?}");
}
