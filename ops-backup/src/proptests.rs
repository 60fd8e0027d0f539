//! Any manifest is read as it was written, whatever is in it, and nothing else is taken for one.

use jiff::Timestamp;
use ops_core::{Environment, OperationId};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use ulid::Ulid;

use crate::manifest::{
    BackupId, ChunkRecord, MANIFEST_FORMAT, Manifest, SetName, Settings, SourceRecord, TableRecord,
    UnitRecord,
};
use crate::source::SourceSpec;

fn set_names() -> impl Strategy<Value = SetName> {
    "[a-z0-9_-]{1,64}".prop_map(|name| name.parse().unwrap())
}

fn ulids() -> impl Strategy<Value = String> {
    (0..1_u64 << 48, any::<u128>())
        .prop_map(|(ms, random)| Ulid::from_parts(ms, random).to_string())
}

fn specs() -> impl Strategy<Value = SourceSpec> {
    prop_oneof![
        ".*".prop_map(SourceSpec::sqlite),
        (".*", vec(".*", 0..3), vec(".*", 0..3)).prop_map(|(path, include, exclude)| {
            SourceSpec::Directory { path: path.into(), include, exclude }
        }),
        vec(".*", 0..4).prop_map(|argv| SourceSpec::Command { argv }),
        ".*".prop_map(|name| SourceSpec::Named { name }),
    ]
}

fn chunks() -> impl Strategy<Value = ChunkRecord> {
    (".*", any::<u64>(), "[0-9a-f]{64}", any::<u64>()).prop_map(
        |(key, stored_size, stored_sha256, plain_size)| ChunkRecord {
            key,
            stored_size,
            stored_sha256,
            plain_size,
        },
    )
}

fn units() -> impl Strategy<Value = UnitRecord> {
    let digests = prop_oneof![
        "[0-9a-f]{64}".prop_map(|plain| (plain, String::new())),
        "[0-9a-f]{64}".prop_map(|keyed| (String::new(), keyed)),
    ];
    let rows = btree_map(".*", any::<u64>(), 0..3);
    (".*", any::<u64>(), digests, rows, vec(chunks(), 0..4)).prop_map(
        |(name, plain_size, (plain_sha256, plain_blake3), rows, chunks)| UnitRecord {
            name,
            plain_size,
            plain_sha256,
            plain_blake3,
            rows,
            chunks,
        },
    )
}

fn sources() -> impl Strategy<Value = SourceRecord> {
    let table = (any::<u64>(), ".*").prop_map(|(rows, content)| TableRecord { rows, content });
    let told = || btree_map(".*", ".*", 0..3);
    let tables = btree_map(".*", table, 0..3);
    (specs(), ".*", ".*", told(), told(), tables, vec(units(), 0..3)).prop_map(
        |(source, kind, fingerprint, versions, facts, tables, units)| SourceRecord {
            source,
            kind,
            fingerprint,
            versions,
            facts,
            tables,
            units,
        },
    )
}

fn manifests() -> impl Strategy<Value = Manifest> {
    let moments = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    let environments =
        vec![Environment::Development, Environment::Staging, Environment::Production];
    let settings = (any::<usize>(), any::<i32>());
    let names = (ulids(), set_names(), ulids());
    (names, moments, prop::sample::select(environments), ".*", settings, vec(sources(), 0..3))
        .prop_map(|((id, set, operation), second, environment, tool, how, sources)| {
            let mut settings = Settings::default();
            (settings.chunk_size, settings.zstd_level) = how;
            Manifest {
                format: MANIFEST_FORMAT,
                id: id.parse().unwrap(),
                set,
                operation: operation.parse::<OperationId>().unwrap(),
                created_at: Timestamp::from_second(second).unwrap(),
                environment,
                tool,
                settings,
                sources,
            }
        })
}

proptest! {
    #[test]
    fn a_manifest_is_read_as_it_was_written(manifest in manifests()) {
        let bytes = manifest.to_bytes().unwrap();
        prop_assert_eq!(&Manifest::from_bytes(&bytes).unwrap(), &manifest);
        prop_assert_eq!(manifest.to_bytes().unwrap(), bytes, "in one way only");
        // Of numbers that somebody made up no sum may wrap.
        prop_assert!(manifest.plain_size() >= manifest.units().map(|u| u.plain_size).max().unwrap_or(0));
        let _ = manifest.uploaded();
    }

    #[test]
    fn a_changed_or_cut_manifest_is_none(manifest in manifests(), at: Index, to: u8) {
        let bytes = manifest.to_bytes().unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] = to;
        prop_assert!(changed == bytes || Manifest::from_bytes(&changed).is_err());
        prop_assert!(Manifest::from_bytes(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn what_is_no_manifest_is_refused(bytes in vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
        prop_assert!(Manifest::from_bytes(&bytes).is_err());
        prop_assert!(Manifest::from_bytes(text.as_bytes()).is_err());
    }

    #[test]
    fn ids_are_one_for_each_operation_and_set(
        first in ulids(), second in ulids(), set in set_names(), other in set_names(), text in "\\PC{0,40}",
    ) {
        let [first, second]: [OperationId; 2] = [first, second].map(|id| id.parse().unwrap());
        let id = |operation, set| BackupId::of(operation, set).unwrap();
        prop_assert_eq!(id(first, &set), id(first, &set));
        prop_assert_eq!(id(first, &set) == id(first, &other), set == other);
        prop_assert_eq!(id(first, &set) == id(second, &set), first == second);
        let one = id(first, &set);
        prop_assert_eq!(one.to_string().parse::<BackupId>().unwrap(), one);
        // Whoever sorts them has them in the order of their moments.
        let (earlier, later) = (one.min(id(second, &set)), one.max(id(second, &set)));
        prop_assert!(earlier.moment() <= later.moment());
        if let Ok(parsed) = text.parse::<BackupId>() {
            prop_assert_eq!(parsed.to_string().to_lowercase(), text.to_lowercase());
        }
        if let Ok(set) = text.parse::<SetName>() {
            prop_assert_eq!(set.as_ref(), &text);
        }
    }
}
