//! A script of `pg_dump`, cut where indexes are built: those are built at once.

/// A part of a script; the parts are run one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// For `psql`, as it stands, after what the script set before.
    Script(String),
    /// Statements that build an index each, in any order and at once.
    Builds(Vec<String>),
}

/// What a session is told before it runs a part.
#[derive(Debug, Default, Clone)]
struct Session {
    /// What `psql` reads and no server.
    restrict: String,
    settings: Vec<String>,
}

impl Session {
    fn set(&mut self, statement: &str) {
        // Of the same setting the last one holds.
        let name = |statement: &str| statement.split([',', '=']).next().map(str::to_owned);
        self.settings.retain(|known| name(known) != name(statement));
        self.settings.push(format!("{statement}\n"));
    }

    fn settings(&self) -> String {
        self.settings.concat()
    }
}

/// Cuts a script. Of one that holds what only `psql` itself could cut, it is one part.
pub(super) fn cut(script: &str) -> Vec<Part> {
    let whole = || vec![Part::Script(script.to_owned())];
    let Some(statements) = statements(script) else { return whole() };
    let (mut session, mut parts) = (Session::default(), Vec::new());
    let (mut text, mut builds) = (String::new(), Vec::new());
    for statement in statements {
        let bare = bare(statement);
        if bare.starts_with("\\unrestrict ") {
            continue;
        }
        if bare.starts_with("\\restrict ") {
            session.restrict = format!("{bare}\n");
            continue;
        }
        if bare.starts_with('\\') {
            return whole();
        }
        if is_build(bare) {
            if !text.is_empty() {
                parts.push(Part::Script(std::mem::take(&mut text)));
            }
            builds.push(format!("{}{bare}", session.settings()));
            continue;
        }
        if is_setting(bare) {
            session.set(bare);
            if !text.is_empty() {
                text.push_str(statement);
            }
            continue;
        }
        if bare.is_empty() {
            continue;
        }
        if !builds.is_empty() {
            parts.push(Part::Builds(std::mem::take(&mut builds)));
        }
        if text.is_empty() {
            text = format!("{}{}", session.restrict, session.settings());
        }
        text.push_str(statement);
    }
    if !builds.is_empty() {
        parts.push(Part::Builds(builds));
    }
    if !text.is_empty() {
        parts.push(Part::Script(text));
    }
    parts
}

/// Without the comments and spaces before it.
fn bare(mut statement: &str) -> &str {
    loop {
        statement = statement.trim();
        match statement.strip_prefix("--") {
            Some(rest) => statement = rest.split_once('\n').map_or("", |(_, rest)| rest),
            None => return statement,
        }
    }
}

fn is_setting(statement: &str) -> bool {
    statement.starts_with("SET ") || statement.starts_with("SELECT pg_catalog.set_config(")
}

fn is_build(statement: &str) -> bool {
    if statement.starts_with("CREATE INDEX ") || statement.starts_with("CREATE UNIQUE INDEX ") {
        return true;
    }
    // As `pg_dump` writes it: one constraint a statement, behind the table's name on its own line.
    let Some(table) = statement.strip_prefix("ALTER TABLE ") else { return false };
    let Some((_, constraint)) = table.split_once("\n    ADD CONSTRAINT ") else { return false };
    let Some(kind) = past_name(constraint) else { return false };
    kind.starts_with(" PRIMARY KEY (")
        || kind.starts_with(" UNIQUE (")
        || kind.starts_with(" UNIQUE NULLS NOT DISTINCT (")
}

/// What stands behind a name, quoted or not.
fn past_name(text: &str) -> Option<&str> {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.find(' ').map(|end| &text[end..]);
    };
    let mut at = 0;
    loop {
        at += quoted[at..].find('"')? + 1;
        match quoted[at..].strip_prefix('"') {
            Some(_) => at += 1,
            None => return Some(&quoted[at..]),
        }
    }
}

/// The statements, each with its semicolon, and the lines for `psql`. None where bodies hold
/// statements themselves, or something has no end.
fn statements(script: &str) -> Option<Vec<&str>> {
    let bytes = script.as_bytes();
    let (mut found, mut from, mut at, mut depth) = (Vec::new(), 0, 0, 0_usize);
    let end_of = |needle: &str, at: usize| script[at..].find(needle).map(|end| at + end);
    while at < bytes.len() {
        let rest = &bytes[at..];
        match bytes[at] {
            b'\\' if depth == 0 && (at == 0 || bytes[at - 1] == b'\n') => {
                // It is a statement of its own, and none was begun before it.
                if !bare(&script[from..at]).is_empty() {
                    return None;
                }
                at = end_of("\n", at).map_or(bytes.len(), |end| end + 1);
                found.push(&script[from..at]);
                from = at;
            }
            b'-' if rest.starts_with(b"--") => at = end_of("\n", at).map_or(bytes.len(), |e| e + 1),
            // `pg_dump` writes none.
            b'/' if rest.starts_with(b"/*") => return None,
            quote @ (b'\'' | b'"') => {
                let escapes = quote == b'\'' && at > 0 && matches!(bytes[at - 1], b'E' | b'e');
                at += 1;
                loop {
                    match bytes.get(at)? {
                        b'\\' if escapes => at += 2,
                        byte if *byte == quote => break,
                        _ => at += 1,
                    }
                }
                // Two of them are one quote, which the next turn skips like a text of its own.
                at += 1;
            }
            b'$' if !(at > 0 && is_word(bytes[at - 1])) => match dollar_tag(&script[at..]) {
                Some(tag) => at = end_of(tag, at + tag.len())? + tag.len(),
                None => at += 1,
            },
            b'(' => (depth, at) = (depth + 1, at + 1),
            b')' => (depth, at) = (depth.checked_sub(1)?, at + 1),
            b';' if depth == 0 => {
                at += 1;
                found.push(&script[from..at]);
                from = at;
            }
            byte if is_word(byte) => {
                let end = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
                if rest[..end].eq_ignore_ascii_case(b"atomic") {
                    return None;
                }
                // The `E` of a text with escapes is looked at by the text itself.
                at += end;
            }
            _ => at += 1,
        }
    }
    let left = bare(&script[from..]);
    (depth == 0 && left.is_empty()).then_some(found)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// `$$` or `$name$`.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let name = &text[1..end];
    let fits = name.bytes().all(|b| is_word(b) && b != b'$')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    fits.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict key\n\nSET a = 0;\n\
                        SELECT pg_catalog.set_config('search_path', '', false);\n\n";

    const SET: &str = "SET a = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n";

    #[test]
    fn builds_are_cut_out_and_the_rest_stays_in_its_order() {
        let script = format!(
            "{HEAD}-- Name: p; Type: CONSTRAINT\nALTER TABLE ONLY s.t\n    ADD CONSTRAINT p PRIMARY KEY (id);\n\n\
             ALTER TABLE ONLY s.t\n    ADD CONSTRAINT \"u ; \"\"x\" UNIQUE (a);\n\
             SET default_tablespace = fast;\nCREATE INDEX i ON s.t USING btree (a) WHERE (b = ';''--');\n\
             COMMENT ON INDEX s.i IS 'it''s; CREATE INDEX no';\nCREATE UNIQUE INDEX j ON s.t USING btree (b);\n\
             CREATE RULE r AS ON INSERT TO s.t DO ( SELECT 1; SELECT 2; );\n\
             ALTER TABLE ONLY s.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.u(id);\n\n\\unrestrict key\n\n"
        );
        let builds = |all: &[(&str, &str)]| {
            Part::Builds(all.iter().map(|(set, sql)| format!("{SET}{set}{sql}")).collect())
        };
        let fast = "SET default_tablespace = fast;\n";
        let parts = cut(&script);
        assert_eq!(
            parts[0],
            builds(&[
                ("", "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT p PRIMARY KEY (id);"),
                ("", "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT \"u ; \"\"x\" UNIQUE (a);"),
                (fast, "CREATE INDEX i ON s.t USING btree (a) WHERE (b = ';''--');"),
            ])
        );
        let head = format!("\\restrict key\n{SET}{fast}");
        let comment = "\nCOMMENT ON INDEX s.i IS 'it''s; CREATE INDEX no';";
        assert_eq!(parts[1], Part::Script(format!("{head}{comment}")));
        assert_eq!(parts[2], builds(&[(fast, "CREATE UNIQUE INDEX j ON s.t USING btree (b);")]));
        let Part::Script(rest) = &parts[3] else { panic!("{parts:?}") };
        assert!(rest.starts_with(&head) && rest.contains("SELECT 2; );"), "{rest}");
        assert!(rest.ends_with("FOREIGN KEY (a) REFERENCES s.u(id);"), "{rest}");
        assert_eq!(parts.len(), 4);
    }

    #[test]
    fn texts_and_bodies_hide_what_looks_like_a_statement() {
        for inner in [
            "COMMENT ON TABLE t IS 'a\n;\nCREATE INDEX x ON t (a);\n';",
            "COMMENT ON TABLE t IS E'\\';\nCREATE INDEX x ON t (a);\n';",
            "CREATE FUNCTION f() AS $_$ BEGIN\nCREATE INDEX x ON t (a);\nEND $_$;",
            "COMMENT ON TABLE \"\n;\nCREATE INDEX x ON t (a);\n\" IS NULL;",
        ] {
            let parts = cut(&format!("{HEAD}{inner}\n"));
            assert_eq!(
                parts,
                [Part::Script(format!("\\restrict key\n{SET}\n\n{inner}"))],
                "{inner}"
            );
        }
    }

    #[test]
    fn what_only_psql_can_cut_is_left_to_it() {
        for script in [
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END;\nCREATE INDEX i ON t (a);\n",
            "CREATE INDEX i ON t (a);\nCOMMENT ON TABLE t IS 'no end",
            "CREATE INDEX i ON t (a);\n\\connect other\n",
            "CREATE INDEX i ON t (a);\n/* x */\n",
            "CREATE INDEX i ON t (a",
            "CREATE INDEX i ON t (a))\n;",
        ] {
            assert_eq!(cut(script), [Part::Script(script.to_owned())], "{script}");
        }
    }
}
