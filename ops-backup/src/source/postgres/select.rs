//! Which tables of a backup are restored.
//!
//! That follows from the backup alone, so that a dry run tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::moment::{Catalog, PRE_DATA};
use super::quote::readable;
use super::stage::read_all;
use crate::error::{Error, ErrorKind};
use crate::manifest::SourceRecord;
use crate::vault::Vault;

/// More names than these say nothing new.
const MAX_NAMES: usize = 30;

/// Which tables of a PostgreSQL database are restored: those of a schema, or one; a partitioned table
/// or a parent brings its children.
///
/// Written as `schema` or `schema.table`, with double quotes as SQL has them where a name needs them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TableChoice {
    /// Every table of the schema.
    Schema(String),
    /// One table.
    Table(String, String),
}

impl FromStr for TableChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorKind::InvalidInput, format!("`{text}` names no schema or table"))
                .remedy(
                    "write `schema` or `schema.table`, and names with odd letters in double quotes",
                )
        };
        let (schema, rest) = name(text).ok_or_else(wrong)?;
        if rest.is_empty() {
            return Ok(Self::Schema(schema));
        }
        let table = rest.strip_prefix('.').ok_or_else(wrong)?;
        match name(table) {
            Some((table, "")) => Ok(Self::Table(schema, table)),
            _ => Err(wrong()),
        }
    }
}

/// The first name of a text, as SQL has names, and the rest.
fn name(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (mut name, mut chars) = (String::new(), quoted.char_indices().peekable());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    chars.next();
                    name.push('"');
                }
                '"' => return (!name.is_empty()).then(|| (name, &quoted[at + 1..])),
                c => name.push(c),
            }
        }
        return None;
    }
    let end = text.find(['.', '"', ' ', ',', ')', ';']).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// A name within a schema, and the rest.
fn pair(text: &str) -> Option<((String, String), &str)> {
    let (schema, rest) = name(text)?;
    let (table, rest) = name(rest.strip_prefix('.')?)?;
    Some(((schema, table), rest))
}

impl fmt::Display for TableChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // With a name that needs no quotes after it, which is cut off again.
            Self::Schema(schema) => {
                f.write_str(readable(schema, "x").strip_suffix(".x").unwrap_or(schema))
            }
            Self::Table(schema, table) => f.write_str(&readable(schema, table)),
        }
    }
}

impl TryFrom<String> for TableChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TableChoice> for String {
    fn from(choice: TableChoice) -> Self {
        choice.to_string()
    }
}

/// Schema and table.
type Name = (String, String);

/// What the schema's script tells of tables without reading it as SQL: those that `pg_dump` announces,
/// and of whom they are children. A function's text that looks the same adds names, and nothing else.
#[derive(Debug, Default)]
struct Outline {
    tables: BTreeSet<Name>,
    children: BTreeMap<Name, BTreeSet<Name>>,
}

impl Outline {
    fn of(script: &str) -> Self {
        let mut outline = Self::default();
        let mut current: Option<Name> = None;
        for line in script.lines() {
            if let Some((table, schema)) = announced(line) {
                current = Some((schema.to_owned(), table.to_owned()));
                outline.tables.extend(current.clone());
            } else if let (Some(child), Some(parents)) = (&current, line.strip_prefix("INHERITS ("))
            {
                let mut rest = parents;
                while let Some((parent, more)) = pair(rest) {
                    outline.children.entry(parent).or_default().insert(child.clone());
                    rest = more.strip_prefix(", ").unwrap_or_default();
                }
            } else if let Some(attach) = line.strip_prefix("ALTER TABLE ONLY ")
                && let Some((parent, rest)) = pair(attach)
                && let Some(rest) = rest.strip_prefix(" ATTACH PARTITION ")
                && let Some((child, _)) = pair(rest)
            {
                outline.children.entry(parent).or_default().insert(child);
            }
        }
        outline
    }

    /// Adds the children of what is chosen, and theirs.
    fn descend(&self, chosen: &mut BTreeSet<Name>) {
        let mut open: Vec<Name> = chosen.iter().cloned().collect();
        while let Some(parent) = open.pop() {
            for child in self.children.get(&parent).into_iter().flatten() {
                if chosen.insert(child.clone()) {
                    open.push(child.clone());
                }
            }
        }
    }
}

/// Table and schema of a line such as `-- Name: guests; Type: TABLE; Schema: public; Owner: ada`.
fn announced(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("-- Name: ")?.split_once("; Type: TABLE; Schema: ")?;
    Some((name, rest.split_once("; Owner: ")?.0))
}

/// What a choice comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The tables that have rows, as the manifest names them.
    pub tables: BTreeSet<String>,
    /// Everything that is kept, partitioned tables too.
    pub names: BTreeSet<Name>,
    /// The tables with rows that are left out.
    pub left_out: BTreeSet<String>,
}

/// Finds the tables of a choice in a backup.
///
/// # Errors
/// [`ErrorKind::NotFound`] with the names that there are, if one of the choices names nothing.
pub(super) async fn choose(
    vault: &Vault,
    record: &SourceRecord,
    catalog: Option<&Catalog>,
    choices: &[TableChoice],
    cancel: &CancellationToken,
) -> Result<Chosen, Error> {
    let Some(catalog) = catalog else {
        let message = format!("`{}` is one dump, of which no part can be chosen", record.source);
        return Err(Error::new(ErrorKind::InvalidInput, message).remedy(
            "restore it whole into a new database; back up with `postgres://` for the next time",
        ));
    };
    let script = read_all(vault, record, PRE_DATA, cancel).await?;
    let outline = Outline::of(&String::from_utf8_lossy(&script));
    resolve(catalog, &outline, choices)
}

fn resolve(catalog: &Catalog, outline: &Outline, choices: &[TableChoice]) -> Result<Chosen, Error> {
    let with_rows = catalog.tables.iter().map(|t| ((t.schema.clone(), t.name.clone()), t.key()));
    let with_rows: BTreeMap<Name, String> = with_rows.collect();
    let mut all = outline.tables.clone();
    all.extend(with_rows.keys().cloned());
    let mut names = BTreeSet::new();
    for choice in choices {
        let fits = |(schema, table): &&Name| match choice {
            TableChoice::Schema(wanted) => schema == wanted,
            TableChoice::Table(wanted, name) => schema == wanted && table == name,
        };
        let found: Vec<_> = all.iter().filter(fits).cloned().collect();
        if found.is_empty() {
            let known = |names: BTreeSet<String>| {
                let more = names.len().saturating_sub(MAX_NAMES);
                let shown: Vec<_> = names.into_iter().take(MAX_NAMES).collect();
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                shown.join(", ") + &more
            };
            let schema = match choice {
                TableChoice::Schema(schema) | TableChoice::Table(schema, _) => schema,
            };
            let siblings = all.iter().filter(|(of, _)| of == schema);
            let siblings: BTreeSet<_> = siblings.map(|(s, t)| readable(s, t)).collect();
            let possible = if siblings.is_empty() {
                let schema = |(schema, _): &Name| TableChoice::Schema(schema.clone()).to_string();
                format!("schemas with tables: {}", known(all.iter().map(schema).collect()))
            } else {
                format!("tables of that schema: {}", known(siblings))
            };
            let message = format!("the backup has nothing that `{choice}` names");
            return Err(Error::new(ErrorKind::NotFound, message)
                .remedy(format!("choose of the {possible}")));
        }
        names.extend(found);
    }
    outline.descend(&mut names);
    let (chosen, left): (Vec<_>, Vec<_>) =
        with_rows.into_iter().partition(|(name, _)| names.contains(name));
    let keys = |tables: Vec<(Name, String)>| tables.into_iter().map(|(_, key)| key).collect();
    Ok(Chosen { tables: keys(chosen), left_out: keys(left), names })
}

/// What the dry run tells of a choice: the tables with their rows, and what is left out.
pub(super) fn tell(record: &SourceRecord, chosen: &Chosen) -> [(&'static str, String); 2] {
    let rows = |table: &String| {
        let rows = record.tables.get(table).map_or(0, |table| table.rows);
        format!("{table} ({rows} rows)")
    };
    let left: Vec<_> = chosen.left_out.iter().cloned().collect();
    let left = if left.is_empty() { "no table".to_owned() } else { left.join(", ") };
    let what = "and what depends on them; large objects";
    let tables: Vec<_> = chosen.tables.iter().map(rows).collect();
    [("tables", tables.join(", ")), ("left out", format!("{left}, {what}"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::catalog::Table;
    use crate::source::postgres::facts::Facts;

    #[test]
    fn choices_are_read_as_they_are_written() {
        let table = |schema: &str, table: &str| TableChoice::Table(schema.into(), table.into());
        for (text, choice, shown) in [
            ("public", TableChoice::Schema("public".into()), "public"),
            ("public.guests", table("public", "guests"), "public.guests"),
            ("Odd.x", table("Odd", "x"), "\"Odd\".x"),
            ("\"a.b\".\"c \"\"d\"", table("a.b", "c \"d"), "\"a.b\".\"c \"\"d\""),
        ] {
            let read: TableChoice = text.parse().unwrap();
            assert_eq!((&read, &*read.to_string()), (&choice, shown));
            assert_eq!(read.to_string().parse::<TableChoice>().unwrap(), choice);
        }
        for wrong in ["", ".", "a.", ".b", "a.b.c", "\"a", "a b", "\"\".x"] {
            assert!(wrong.parse::<TableChoice>().is_err(), "{wrong}");
        }
    }

    const SCRIPT: &str = "
-- Name: parted; Type: TABLE; Schema: public; Owner: ada
CREATE TABLE public.parted (id int) PARTITION BY RANGE (id);
-- Name: part one; Type: TABLE; Schema: public; Owner: ada
-- Name: parent; Type: TABLE; Schema: s; Owner: ada
-- Name: child; Type: TABLE; Schema: public; Owner: ada
CREATE TABLE public.child (
)
INHERITS (s.parent, public.parted);
-- Name: part one; Type: TABLE ATTACH; Schema: public; Owner: ada
ALTER TABLE ONLY public.parted ATTACH PARTITION public.\"part one\" DEFAULT;
-- Name: other; Type: TABLE; Schema: s; Owner: ada
";

    #[test]
    fn children_come_with_their_parents_and_what_names_nothing_is_told_with_what_there_is() {
        let outline = Outline::of(SCRIPT);
        let table = |schema: &str, name: &str| Table {
            schema: schema.into(),
            name: name.into(),
            columns: Vec::new(),
            condition: String::new(),
            units: Vec::new(),
        };
        let tables = [("public", "part one"), ("s", "parent"), ("public", "child"), ("s", "other")];
        let facts = r#"{"fingerprint":"","server":150000,"server_version":"","lsn":"","roles":[],
            "extensions":[],"tablespaces":[],"properties":{"owner":"","encoding":"","collate":"",
            "ctype":"","icu":null,"tablespace":"","connection_limit":-1,"comment":null,"granted":false}}"#;
        let facts: Facts = serde_json::from_str(facts).unwrap();
        let tables = tables.map(|(schema, name)| table(schema, name)).to_vec();
        let catalog = Catalog { format: 1, facts, tables, large_objects: true };
        let choose = |choices: &[&str]| {
            let choices: Vec<TableChoice> = choices.iter().map(|c| c.parse().unwrap()).collect();
            resolve(&catalog, &outline, &choices)
        };
        for (choices, tables) in [
            (&["public.parted"][..], &["public.\"part one\"", "public.child"][..]),
            (&["s"], &["public.child", "s.other", "s.parent"]),
            (&["s.other"], &["s.other"]),
            (&["s.other", "public"], &["public.\"part one\"", "public.child", "s.other"]),
        ] {
            let chosen = choose(choices).unwrap();
            assert_eq!(chosen.tables.iter().map(String::as_str).collect::<Vec<_>>(), tables);
            assert_eq!(chosen.tables.len() + chosen.left_out.len(), 4);
        }
        for (choice, told) in [
            ("nowhere", "choose of the schemas with tables: public, s"),
            ("s.gone", "choose of the tables of that schema: s.other, s.parent"),
        ] {
            let error = choose(&["s", choice]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
