//! Whether statements of SQL only add, so that a version that does not know of them can run on.
//!
//! What is known to only add is let through, and nothing else: a statement that is not known here
//! may do anything.

const ROWS: &str = "changes rows that the old version reads";
const REFUSES: &str = "refuses what the old version may write";
const TAKES: &str = "takes something away";
const UNKNOWN: &str = "does what cannot be told";

/// Statements that add nothing and take nothing, whatever follows.
const HARMLESS: [&str; 16] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "RESET",
    "SHOW",
    "COMMENT",
    "GRANT",
    "ANALYZE",
    "VACUUM",
    "REINDEX",
    "LOCK",
];

/// The statements after which an older version might not run, each with the reason.
pub(super) fn contracting(sql: &str) -> Vec<String> {
    let Lexed { statements, unclear } = statements(sql);
    let found = statements.into_iter().filter_map(|words| {
        let why = why(&words)?;
        let mut text = words.join(" ");
        if text.chars().count() > 120 {
            text = text.chars().take(117).chain("...".chars()).collect();
        }
        Some(format!("`{text}` {why}"))
    });
    found.chain(unclear.map(str::to_owned)).collect()
}

fn why(words: &[String]) -> Option<&'static str> {
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    let has = |sought: &[&str]| has(&upper, sought);
    match upper[..] {
        [first, ..] if HARMLESS.contains(&first) => None,
        // What makes reading faster takes nothing from anybody.
        ["DROP", "INDEX" | "STATISTICS", ..] => None,
        ["DROP", ..] => Some(TAKES),
        ["TRUNCATE" | "DELETE", ..] => Some("takes rows away"),
        ["UPDATE" | "MERGE" | "REPLACE", ..] => Some(ROWS),
        ["REVOKE", ..] => Some("takes a right away"),
        ["INSERT", ..] => (has(&["DO", "UPDATE"]) || has(&["DUPLICATE", "KEY"])).then_some(ROWS),
        ["SELECT", ..] => (has(&["INTO"]) || calls(&upper)).then_some(UNKNOWN),
        ["CREATE", ..] => create(&upper[1..]),
        ["ALTER", "TABLE", ..] => alter_table(&upper[2..]),
        ["ALTER", ..] if has(&["RENAME"]) => Some("renames something"),
        ["ALTER", "TYPE", ..] if has(&["ADD", "VALUE"]) => None,
        ["ALTER", "TYPE" | "DOMAIN", ..] => Some("changes a type"),
        _ => Some(UNKNOWN),
    }
}

fn has(words: &[&str], sought: &[&str]) -> bool {
    words.windows(sought.len()).any(|window| window == sought)
}

/// Whether functions are called, but for those that programs which print a schema call.
fn calls(words: &[&str]) -> bool {
    let known = ["SET_CONFIG", "SETVAL", "PG_CATALOG.SET_CONFIG", "PG_CATALOG.SETVAL"];
    words.windows(2).any(|pair| pair[1] == "(" && !known.contains(&pair[0]))
}

/// What a `CREATE` does besides creating.
fn create(words: &[&str]) -> Option<&'static str> {
    let rest = words.iter().copied().skip_while(|word| {
        matches!(*word, "TEMP" | "TEMPORARY" | "GLOBAL" | "LOCAL" | "UNLOGGED" | "RECURSIVE")
    });
    match rest.collect::<Vec<_>>()[..] {
        [
            "TABLE" | "INDEX" | "SEQUENCE" | "SCHEMA" | "TYPE" | "DOMAIN" | "EXTENSION" | "VIEW"
            | "MATERIALIZED" | "COLLATION" | "STATISTICS" | "FUNCTION" | "PROCEDURE" | "AGGREGATE"
            | "ROLE" | "USER",
            ..,
        ] => None,
        ["UNIQUE", ..] => Some(REFUSES),
        ["OR", "REPLACE", ..] => Some("replaces what the old version may use"),
        ["TRIGGER" | "RULE" | "POLICY", ..] | ["CONSTRAINT" | "EVENT", "TRIGGER", ..] => {
            Some("changes what writing does")
        }
        _ => Some(UNKNOWN),
    }
}

/// What the clauses of an `ALTER TABLE` do, of which only the known ones only add.
fn alter_table(words: &[&str]) -> Option<&'static str> {
    let mut rest = words;
    for before in [&["IF", "EXISTS"][..], &["ONLY"]] {
        rest = rest.strip_prefix(before).unwrap_or(rest);
    }
    // The name of the table may be of several words, where they are quoted.
    let mut name = 1;
    while let Some(word) = rest.get(name)
        && (word.starts_with('.') || rest[name - 1].ends_with('.') || *word == "*")
    {
        name += 1;
    }
    let rest = rest.get(name..).unwrap_or_default();
    clauses(rest).into_iter().find_map(|clause| {
        let has = |sought: &[&str]| has(clause, sought);
        match *clause {
            ["ADD", "CONSTRAINT" | "CHECK" | "UNIQUE" | "PRIMARY" | "FOREIGN" | "EXCLUDE", ..] => {
                Some(REFUSES)
            }
            ["ADD", "INDEX" | "KEY", ..]
            | ["VALIDATE", "CONSTRAINT", ..]
            | ["DROP", "CONSTRAINT" | "CHECK" | "INDEX" | "FOREIGN", ..] => None,
            ["ADD", _, ..] => {
                let demands = has(&["NOT", "NULL"]) && !has(&["DEFAULT"]) && !has(&["GENERATED"]);
                let bound = has(&["UNIQUE"]) || has(&["PRIMARY", "KEY"]) || has(&["REFERENCES"]);
                (demands || bound).then_some(REFUSES)
            }
            ["DROP", ..] => Some(TAKES),
            ["RENAME", ..] => Some("renames something"),
            ["MODIFY" | "CHANGE", ..] => Some("changes a type"),
            ["ALTER", ..] => alter_column(clause),
            _ => Some(UNKNOWN),
        }
    })
}

fn alter_column(clause: &[&str]) -> Option<&'static str> {
    let name = if clause.get(1) == Some(&"COLUMN") { 2 } else { 1 };
    match *clause.get(name + 1..).unwrap_or_default() {
        ["DROP", "NOT", "NULL"]
        | ["SET", "DEFAULT" | "STATISTICS" | "STORAGE" | "COMPRESSION" | "(", ..] => None,
        ["SET", "NOT", "NULL"] | ["DROP", "DEFAULT"] => Some(REFUSES),
        ["TYPE", ..] | ["SET", "DATA", "TYPE", ..] => Some("changes a type"),
        _ => Some(UNKNOWN),
    }
}

/// The parts of a statement between its commas, but for those in parentheses.
fn clauses<'a>(words: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let (mut depth, mut begin, mut clauses) = (0_usize, 0, Vec::new());
    for (n, word) in words.iter().enumerate() {
        match *word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                clauses.push(&words[begin..n]);
                begin = n + 1;
            }
            _ => {}
        }
    }
    clauses.push(&words[begin..]);
    clauses
}

/// The words of each statement, and why they might be others.
struct Lexed {
    statements: Vec<Vec<String>>,
    unclear: Option<&'static str>,
}

/// Comments are left out, a quoted text or name is one word.
fn statements(sql: &str) -> Lexed {
    let mut unclear = None;
    let (mut statements, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let mut rest = sql;
    let end = |word: &mut String, words: &mut Vec<String>| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        if rest.starts_with("--") {
            end(&mut word, &mut words);
            taken = rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            end(&mut word, &mut words);
            taken = comment(rest);
            let text = &rest[..taken];
            if text[2..].contains("/*")
                || text[2..].starts_with(['!', 'M'])
                || !text.ends_with("*/")
            {
                unclear = Some("a comment in it is run, or ends elsewhere, in some databases");
            }
        } else if let Some(length) = dollar_quoted(rest) {
            end(&mut word, &mut words);
            let text = &rest[..length];
            let tag = text[1..].find('$').map_or("$", |at| &text[..at + 2]);
            if length < 2 * tag.len() || !text.ends_with(tag) {
                unclear = Some("a quoted text in it does not end");
            }
            words.push(text.to_owned());
            taken = length;
        } else if matches!(c, '\'' | '"' | '`') {
            end(&mut word, &mut words);
            let closed = rest[1..].find(c);
            taken = closed.map_or(rest.len(), |at| at + 2);
            if closed.is_none() {
                unclear = Some("a quoted text in it does not end");
            } else if rest[..taken].contains('\\') {
                unclear = Some(
                    "a quoted text in it has a backslash, and ends elsewhere in some databases",
                );
            }
            words.push(rest[..taken].to_owned());
        } else if c == ';' {
            end(&mut word, &mut words);
            statements.push(std::mem::take(&mut words));
        } else if c.is_whitespace() {
            end(&mut word, &mut words);
        } else if matches!(c, '(' | ')' | ',') {
            end(&mut word, &mut words);
            words.push(c.to_string());
        } else {
            if c == '#' {
                unclear = Some("a `#` in it begins a comment in some databases");
            }
            word.push(c);
        }
        rest = &rest[taken..];
    }
    end(&mut word, &mut words);
    statements.push(words);
    statements.retain(|words| !words.is_empty());
    Lexed { statements, unclear }
}

/// How long a comment is, with those in it.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// How long a text between dollars is (`$tag$ ... $tag$`), if one begins here.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag_end = text.strip_prefix('$')?.find('$')? + 2;
    let tag = &text[..tag_end];
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    if !tag[1..tag_end - 1].chars().all(plain) || tag[1..].starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    Some(text[tag_end..].find(tag).map_or(text.len(), |at| tag_end + at + tag.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_only_adds_lets_the_old_version_run() {
        for sql in [
            "",
            "BEGIN; CREATE TABLE a (id bigint NOT NULL, PRIMARY KEY (id)); COMMIT;",
            "CREATE INDEX CONCURRENTLY i ON a (b); DROP INDEX IF EXISTS old",
            "ALTER TABLE a ADD COLUMN b text, ADD COLUMN c int NOT NULL DEFAULT 0",
            "alter table a alter column b drop not null, drop constraint c",
            "ALTER TYPE mood ADD VALUE 'glad'",
            "INSERT INTO log VALUES ('DROP TABLE a; --', $$ TRUNCATE a; $$, $x$ DELETE FROM $$ a $x$)",
            "-- DROP TABLE a;\n/* DROP TABLE a; */ SELECT 1;",
            "INSERT INTO a (\"DROP\") VALUES ('it''s', now()); CREATE VIEW v AS SELECT 1;",
            "CREATE FUNCTION f() RETURNS int AS $$ BEGIN DROP TABLE a; END $$ LANGUAGE plpgsql",
            "SET statement_timeout = 0; SELECT pg_catalog.set_config('search_path', '', false);",
            "ALTER TABLE ONLY \"s\".\"a\" ADD b text; ALTER TABLE IF EXISTS s.a ADD b int DEFAULT 1",
            "ALTER TABLE a ALTER COLUMN b SET DEFAULT 1, VALIDATE CONSTRAINT c",
            "COMMENT ON TABLE a IS 'drop table'; GRANT SELECT ON a TO b; ANALYZE a",
            "CREATE TABLE IF NOT EXISTS p PARTITION OF a FOR VALUES FROM (1) TO (2)",
        ] {
            assert_eq!(contracting(sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn what_takes_away_renames_or_forbids_does_not() {
        for (sql, why) in [
            ("CREATE TABLE b (); drop table a", "`drop table a` takes something away"),
            ("ALTER TABLE a ADD COLUMN c int, DROP COLUMN b", "takes something away"),
            ("ALTER TABLE a DROP b", "takes something away"),
            ("ALTER TABLE a RENAME COLUMN b TO c", "renames something"),
            ("ALTER INDEX i RENAME TO j", "renames something"),
            ("ALTER TABLE a ALTER COLUMN b TYPE bigint", "changes a type"),
            ("ALTER TABLE a ALTER b SET NOT NULL", "refuses what the old version may write"),
            ("ALTER TABLE a ADD COLUMN b int NOT NULL", "refuses what the old version may write"),
            ("ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0)", "refuses what the old"),
            ("CREATE UNIQUE INDEX i ON a (b)", "refuses what the old version may write"),
            ("/* it */ TRUNCATE a -- all", "`TRUNCATE a` takes rows away"),
            ("DO $$ BEGIN PERFORM 1; END $$", "does what cannot be told"),
            ("SELECT drop_all()", "does what cannot be told"),
            ("SELECT * INTO b FROM a", "does what cannot be told"),
            ("WITH d AS (DELETE FROM a RETURNING *) SELECT 1", "does what cannot be told"),
            ("UPDATE a SET b = 1", "changes rows"),
            ("MERGE INTO a USING b ON 1 = 1 WHEN MATCHED THEN DELETE", "changes rows"),
            ("INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1", "changes rows"),
            ("ALTER TABLE a SET SCHEMA b", "does what cannot be told"),
            ("ALTER TABLE a DETACH PARTITION b", "does what cannot be told"),
            ("ALTER TABLE a ENABLE ROW LEVEL SECURITY", "does what cannot be told"),
            ("ALTER TABLE \"a\".\"b\" FORCE ROW LEVEL SECURITY", "does what cannot be told"),
            ("ALTER TABLE a ALTER b DROP DEFAULT", "refuses what the old version may write"),
            ("ALTER TABLE a ADD COLUMN b int REFERENCES c", "refuses what the old"),
            ("CREATE CONSTRAINT TRIGGER t AFTER INSERT ON a", "changes what writing does"),
            ("CREATE RULE r AS ON INSERT TO a DO NOTHING", "changes what writing does"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "replaces what the old version may use"),
            ("CREATE OR REPLACE FUNCTION f() RETURNS int", "replaces what the old"),
            ("DROP TRIGGER t ON a", "takes something away"),
            ("GIBBERISH", "does what cannot be told"),
        ] {
            let found = contracting(sql);
            assert!(found.len() == 1 && found[0].contains(why), "{sql}: {found:?}");
        }
        assert_eq!(contracting("DROP TABLE a; DELETE FROM b; SELECT 1").len(), 2);
    }

    #[test]
    fn what_databases_read_in_different_ways_is_not_let_through() {
        for sql in [
            r"INSERT INTO t VALUES (E'it\'s'); DROP TABLE x; SELECT 'a';",
            "/*! DROP TABLE a */",
            "/* a /* b */ DROP TABLE c; */ SELECT 1",
            "SELECT 1 # it's\n; DROP TABLE a; SELECT 'b'",
            "INSERT INTO t VALUES ('a); DROP TABLE b",
            "SELECT $x$ ; DROP TABLE a",
            "SELECT 1 /* ; DROP TABLE a",
        ] {
            assert!(!contracting(sql).is_empty(), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(sql in r#"(\$a?\$|['"`;(),*/é-]|DROP | a){0,40}"#) {
            let _ = contracting(&sql);
        }
    }
}
