//! Whether the schema is the same in two snapshots.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::connect::failed;
use crate::error::Error;

/// Catalogs of which every row of the user's counts, and the column that tells whose it is.
const WHOLE: [(&str, &str); 39] = [
    ("pg_am", "oid"),
    ("pg_amop", "oid"),
    ("pg_amproc", "oid"),
    ("pg_attrdef", "adrelid"),
    ("pg_cast", "oid"),
    ("pg_collation", "oid"),
    ("pg_constraint", "oid"),
    ("pg_conversion", "oid"),
    ("pg_default_acl", "oid"),
    ("pg_description", "objoid"),
    ("pg_enum", "oid"),
    ("pg_event_trigger", "oid"),
    ("pg_extension", "oid"),
    ("pg_foreign_data_wrapper", "oid"),
    ("pg_foreign_server", "oid"),
    ("pg_foreign_table", "ftrelid"),
    ("pg_inherits", "inhrelid"),
    ("pg_language", "oid"),
    ("pg_largeobject_metadata", "oid"),
    ("pg_opclass", "oid"),
    ("pg_operator", "oid"),
    ("pg_opfamily", "oid"),
    ("pg_partitioned_table", "partrelid"),
    ("pg_policy", "oid"),
    ("pg_proc", "oid"),
    ("pg_publication", "oid"),
    ("pg_publication_rel", "oid"),
    ("pg_range", "rngtypid"),
    ("pg_rewrite", "oid"),
    ("pg_seclabel", "objoid"),
    ("pg_sequence", "seqrelid"),
    ("pg_statistic_ext", "oid"),
    ("pg_transform", "oid"),
    ("pg_trigger", "oid"),
    ("pg_ts_config", "oid"),
    ("pg_ts_config_map", "mapcfg"),
    ("pg_ts_dict", "oid"),
    ("pg_ts_parser", "oid"),
    ("pg_type", "oid"),
];

/// What truncating, vacuuming and rewriting tables changes besides is left out.
const PARTS: [&str; 5] = [
    "SELECT ROW(c.oid, relname, relnamespace, reltype, reloftype, relowner, relam, reltablespace,
        relpersistence, relkind, relnatts, relchecks, relrowsecurity, relforcerowsecurity,
        relreplident, relispartition, relacl, reloptions, relpartbound::text)::text AS part
    FROM pg_class c WHERE c.oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
        AND relpersistence <> 't'",
    "SELECT ROW(attrelid, attname, atttypid, attnum, attndims, atttypmod, attstorage, attcompression,
        attnotnull, attidentity, attgenerated, attisdropped, attislocal, attinhcount, attcollation,
        attstattarget, attacl, attoptions, attfdwoptions)::text
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE attrelid >= 16384 AND attnum > 0 AND relpersistence <> 't'
        AND relnamespace <> 'pg_toast'::regnamespace",
    "SELECT ROW(indexrelid, indrelid, indisunique, indisprimary, indisexclusion, indimmediate,
        indisclustered, indisvalid, indisreplident, indkey, indcollation, indclass, indoption,
        indexprs::text, indpred::text)::text
    FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
    WHERE indexrelid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
        AND relpersistence <> 't'",
    "SELECT ROW(oid, nspname, nspowner, nspacl)::text FROM pg_namespace
    WHERE nspname !~ '^pg_(toast|temp)'",
    "SELECT ROW(s.oid, subname, subowner, subslotname, subpublications)::text
    FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()",
];

/// A digest of all that makes up the schema, as the connection's snapshot has it.
pub(super) async fn signature(connection: &mut PgConnection) -> Result<String, Error> {
    let mut parts: Vec<String> = PARTS.iter().map(ToString::to_string).collect();
    let mut whole = WHOLE.to_vec();
    if connection.server_version_num().unwrap_or_default() >= 150_000 {
        whole.push(("pg_publication_namespace", "oid"));
    }
    parts.extend(whole.iter().map(|(catalog, owner)| {
        format!("SELECT t::text FROM {catalog} t WHERE t.{owner} >= 16384")
    }));
    parts.push("SELECT t::text FROM pg_user_mappings t".to_owned());
    // Each part tells which it is; within it the order is not known, so its rows are summed up.
    let sums = parts.iter().enumerate().map(|(at, part)| {
        format!(
            "SELECT {at} AS at, count(*)::text || ':' || coalesce(sum(hashtextextended(p.part, {at})), 0)::text
                AS sum FROM ({part}) p(part)"
        )
    });
    let sql = format!(
        "SELECT md5(string_agg(s.sum, ',' ORDER BY s.at)) FROM ({}) s",
        sums.collect::<Vec<_>>().join(" UNION ALL ")
    );
    let signature = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await;
    signature.map_err(|e| failed("look at the schema", e))
}
