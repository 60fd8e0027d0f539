//! What a server keeps about a database, as SQL for another database.

use std::fmt::Write as _;

use super::facts::Properties;
use super::quote::{ident, literal};

/// Settings whose values are lists of names, which the server has quoted already.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `CREATE DATABASE` for a database with this encoding and these locales. `version` is the server's.
pub(super) fn create(name: &str, inside: &Properties, around: &Properties, version: u32) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {} OWNER {} TABLESPACE {}",
        ident(name),
        literal(&inside.encoding),
        literal(&inside.collate),
        literal(&inside.ctype),
        ident(&around.owner),
        ident(&around.tablespace),
    );
    if let (Some(icu), true) = (&inside.icu, version >= 150_000) {
        let _ = write!(sql, " LOCALE_PROVIDER icu ICU_LOCALE {}", literal(icu));
    }
    sql
}

/// Gives a database these settings, grants, comment and limits.
pub(super) fn script(from: &Properties, name: &str) -> String {
    let database = ident(name);
    let mut sql = format!(
        "ALTER DATABASE {database} OWNER TO {};\nALTER DATABASE {database} CONNECTION LIMIT {};\n",
        ident(&from.owner),
        from.connection_limit
    );
    let comment = from.comment.as_ref().map_or_else(|| "NULL".to_owned(), |text| literal(text));
    let _ = writeln!(sql, "COMMENT ON DATABASE {database} IS {comment};");
    for (role, key, value) in &from.settings {
        let value = if LISTS.contains(&&**key) { list(value) } else { literal(value) };
        // A name of an extension's setting has dots, which are no part of a quoted name.
        let key: Vec<_> = key.split('.').map(ident).collect();
        let whose = if role.is_empty() {
            format!("DATABASE {database}")
        } else {
            format!("ROLE {} IN DATABASE {database}", ident(role))
        };
        let _ = writeln!(sql, "ALTER {whose} SET {} TO {value};", key.join("."));
    }
    if from.granted {
        let _ =
            writeln!(sql, "REVOKE ALL ON DATABASE {database} FROM PUBLIC, {};", ident(&from.owner));
        for (grantee, privilege, passed) in &from.grants {
            let grantee = if grantee.is_empty() { "PUBLIC".to_owned() } else { ident(grantee) };
            let end = if *passed { " WITH GRANT OPTION" } else { "" };
            let _ = writeln!(sql, "GRANT {privilege} ON DATABASE {database} TO {grantee}{end};");
        }
    }
    sql
}

/// `"$user", public` as `'$user', 'public'`: as one text it would be one name.
fn list(value: &str) -> String {
    let (mut names, mut name, mut chars) = (Vec::new(), String::new(), value.chars().peekable());
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => name.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            c if c.is_whitespace() && !quoted => {}
            c => name.push(c),
        }
    }
    names.push(name);
    names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_over_is_quoted_as_the_server_wants_it() {
        let from = Properties {
            owner: "o\"x".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            icu: None,
            tablespace: "pg_default".into(),
            connection_limit: 7,
            comment: Some("it's".into()),
            granted: true,
            grants: vec![
                (String::new(), "CONNECT".into(), false),
                ("r".into(), "TEMPORARY".into(), true),
            ],
            settings: vec![
                (String::new(), "search_path".into(), "\"$user\", \"a,\"\"b\", public".into()),
                ("r".into(), "ext.key".into(), "v'".into()),
            ],
        };
        assert_eq!(
            script(&from, "d"),
            "ALTER DATABASE \"d\" OWNER TO \"o\"\"x\";\n\
             ALTER DATABASE \"d\" CONNECTION LIMIT 7;\n\
             COMMENT ON DATABASE \"d\" IS 'it''s';\n\
             ALTER DATABASE \"d\" SET \"search_path\" TO '$user', 'a,\"b', 'public';\n\
             ALTER ROLE \"r\" IN DATABASE \"d\" SET \"ext\".\"key\" TO 'v''';\n\
             REVOKE ALL ON DATABASE \"d\" FROM PUBLIC, \"o\"\"x\";\n\
             GRANT CONNECT ON DATABASE \"d\" TO PUBLIC;\n\
             GRANT TEMPORARY ON DATABASE \"d\" TO \"r\" WITH GRANT OPTION;\n"
        );
    }
}
