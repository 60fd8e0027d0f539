//! Whether statements of SQL only add, so that a version that does not know of them can run on.

/// The statements after which an older version might not run, each with the reason.
pub(super) fn contracting(sql: &str) -> Vec<String> {
    let found = statements(sql).into_iter().filter_map(|words| {
        let why = why(&words)?;
        let mut text = words.join(" ");
        if text.chars().count() > 120 {
            text = text.chars().take(117).chain("...".chars()).collect();
        }
        Some(format!("`{text}` {why}"))
    });
    found.collect()
}

fn why(words: &[String]) -> Option<&'static str> {
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    let has = |sought: &[&str]| upper.windows(sought.len()).any(|window| window == sought);
    match upper[..] {
        // What gets faster or stricter ways out of the way takes nothing from anybody.
        ["DROP", "INDEX" | "TRIGGER" | "POLICY" | "RULE" | "STATISTICS", ..] => None,
        ["DROP", ..] => Some("takes something away"),
        ["TRUNCATE" | "DELETE", ..] => Some("takes rows away"),
        ["REVOKE", ..] => Some("takes a right away"),
        ["DO" | "CALL" | "EXECUTE" | "EXEC", ..] => Some("does what cannot be told"),
        ["ALTER", "TABLE", ..] => alter_table(&upper),
        ["ALTER", ..] if has(&["RENAME"]) => Some("renames something"),
        ["ALTER", "TYPE", ..] if has(&["ADD", "VALUE"]) => None,
        ["ALTER", "TYPE" | "DOMAIN", ..] => Some("changes a type"),
        ["CREATE", "UNIQUE", ..] => Some("refuses what the old version may write"),
        ["CREATE", "TRIGGER", ..] | ["CREATE", _, _, "TRIGGER", ..] => {
            Some("changes what writing does")
        }
        _ => None,
    }
}

fn alter_table(words: &[&str]) -> Option<&'static str> {
    clauses(words).into_iter().find_map(|clause| {
        let has = |sought: &[&str]| clause.windows(sought.len()).any(|window| window == sought);
        if has(&["DROP", "NOT", "NULL"])
            || has(&["DROP", "DEFAULT"])
            || has(&["DROP", "CONSTRAINT"])
            || has(&["DROP", "CHECK"])
            || has(&["DROP", "INDEX"])
            || has(&["VALIDATE", "CONSTRAINT"])
        {
            None
        } else if has(&["DROP"]) {
            Some("takes something away")
        } else if has(&["RENAME"]) {
            Some("renames something")
        } else if has(&["SET", "NOT", "NULL"]) {
            Some("refuses what the old version may write")
        } else if has(&["TYPE"]) || has(&["MODIFY"]) || has(&["CHANGE"]) {
            Some("changes a type")
        } else if has(&["ADD"]) {
            let constrains = ["CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"];
            let adds_constraint = constrains.iter().any(|what| has(&["ADD", what]));
            let demands = has(&["NOT", "NULL"]) && !has(&["DEFAULT"]) && !has(&["GENERATED"]);
            (adds_constraint || demands || has(&["UNIQUE"]))
                .then_some("refuses what the old version may write")
        } else {
            None
        }
    })
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

/// The words of each statement: comments are left out, a quoted text or name is one word.
fn statements(sql: &str) -> Vec<Vec<String>> {
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
        } else if let Some(length) = dollar_quoted(rest) {
            end(&mut word, &mut words);
            words.push(rest[..length].to_owned());
            taken = length;
        } else if matches!(c, '\'' | '"' | '`') {
            end(&mut word, &mut words);
            taken = rest[1..].find(c).map_or(rest.len(), |at| at + 2);
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
            word.push(c);
        }
        rest = &rest[taken..];
    }
    end(&mut word, &mut words);
    statements.push(words);
    statements.retain(|words| !words.is_empty());
    statements
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
            "-- DROP TABLE a;\n/* DROP /* TABLE */ a; */ SELECT 1;",
            "UPDATE a SET \"DROP\" = 'it''s'; CREATE VIEW v AS SELECT 1;",
            "CREATE OR REPLACE FUNCTION f() RETURNS int AS $$ BEGIN DROP TABLE a; END $$ LANGUAGE plpgsql",
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
        ] {
            let found = contracting(sql);
            assert!(found.len() == 1 && found[0].contains(why), "{sql}: {found:?}");
        }
        assert_eq!(contracting("DROP TABLE a; DELETE FROM b; SELECT 1").len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(sql in r#"(\$a?\$|['"`;(),*/é-]|DROP | a){0,40}"#) {
            let _ = contracting(&sql);
        }
    }
}
