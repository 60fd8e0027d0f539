//! What our side does: `backup-helper VERB DATABASE-URL STORE STATE [MORE...]`.
//!
//! A backup may be told `connections=4`, `chunk=4194304` (bytes) and `level=3`, to see what they change.

use std::path::Path;

use ops_backup::{DatabaseOptions, Depth, Manifest, Settings, SourceSpec, Vault};
use ops_core::{ApproveIf, Context, Environment};

use crate::Failure;

/// Its name.
pub const PROGRAM: &str = "backup-helper";

/// The set of all its backups.
pub(super) const SET: &str = "bench";

/// Does it, and says as JSON what a caller may want to know.
///
/// # Errors
/// Those of the work.
pub fn act(arguments: &[String]) -> Result<String, Failure> {
    let [verb, url, store, state, more @ ..] = arguments else {
        return Err("it takes a verb, a database, a store and a folder for its state".into());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let said = runtime.block_on(work(verb, url, Path::new(store), Path::new(state), more))?;
    let mut said = said.as_object().cloned().unwrap_or_default();
    said.insert("peak".into(), peak()?.into());
    Ok(serde_json::Value::Object(said).to_string())
}

/// The most memory that this process had, in bytes. What a parent's `getrusage` says would be the
/// most of any child.
fn peak() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.ok_or("the kernel does not tell the memory")?.trim().parse::<u64>()? * 1024)
}

async fn work(
    verb: &str,
    url: &str,
    store: &Path,
    state: &Path,
    more: &[String],
) -> Result<serde_json::Value, Failure> {
    let cx = Context::builder(state)
        .environment(Environment::Development)
        .approver(ApproveIf::new("benchmark", |_: &_| true))
        .build();
    let mut settings = Settings::default();
    let mut builder = Vault::builder();
    for (name, value) in more.iter().filter_map(|more| more.split_once('=')) {
        match name {
            "connections" => builder = builder.connections(value.parse()?),
            "chunk" => settings.chunk_size = value.parse()?,
            "level" => settings.zstd_level = value.parse()?,
            _ => return Err(format!("no option `{name}`").into()),
        }
    }
    let builder = builder.settings(settings);
    let vault = builder.open_url(&format!("file://{}", store.display())).await?;
    let latest = async || vault.latest(SET).await?.ok_or(Failure::from("there is no backup"));
    Ok(match verb {
        "back-up" => {
            let made = vault.create(SET, &[SourceSpec::postgres(url.parse()?)], &cx).await?;
            serde_json::json!({ "rows": rows(&made), "plain": made.plain_size() })
        }
        "verify" => {
            let found = vault.verify(SET, latest().await?.id, Depth::Full).await?;
            if !found.is_whole() {
                return Err(format!("the backup is not whole: {found:?}").into());
            }
            serde_json::json!({ "plain": found.bytes })
        }
        "restore" => {
            let target = more.first().ok_or("it needs the name of a new database")?;
            let place = url.parse::<ops_backup::PostgresUrl>()?.with_database(target);
            let place = vault.database(&place).await?;
            let options = DatabaseOptions::default().allow_unknown_space();
            let counted = more.get(1).is_some_and(|how| how == "counted");
            let options = if counted { options.counts_only() } else { options };
            vault.restore_database(SET, latest().await?.id, &place, &options, &cx).await?;
            serde_json::json!({})
        }
        _ => return Err(format!("no verb `{verb}`").into()),
    })
}

fn rows(made: &Manifest) -> u64 {
    made.sources.iter().flat_map(|source| source.tables.values()).map(|table| table.rows).sum()
}
