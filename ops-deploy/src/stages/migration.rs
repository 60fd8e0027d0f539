//! A change of a schema that comes with a version.

use ops_core::process::RunContext;
use ops_core::{Refusal, Version};

use super::expand::contracting;
use super::hook::Hook;
use crate::error::{Error, ErrorKind};

/// The code with which a rehearsal says that the old version could not run after the migration.
const INCOMPATIBLE: i32 = 3;
const REMEDY: &str = "split it: add first, take away with a later version; or allow it in the \
                      settings, and lose the way back";

/// A change of a schema that comes with a version, and stays when the operation goes back.
///
/// So it must let the old version run: add first, take away with a later version (*expand and
/// contract*). The rehearsal, which must change nothing, says whether it does: it ends with 0 if
/// so, and with 3 if the old version could not run afterwards; or it
/// [prints](Self::rehearsal_prints_sql) the statements, which are then looked through. Such a
/// migration is refused, unless the settings say [`allow_incompatible`](Self::allow_incompatible);
/// then the history notes that the way back is closed, and a rollback across it asks for an
/// explicit word. Where such a migration has begun and the operation goes back, its
/// [`undo`](Hook::undo) is run; without one a person is asked for, as the old version was said not to
/// run on what the migration has made.
#[derive(Debug, Clone)]
pub struct Migration {
    pub(crate) run: Hook,
    pub(crate) rehearsal: Option<Hook>,
    prints_sql: bool,
    pub(crate) allow_incompatible: bool,
}

impl Migration {
    /// The command that migrates to `{version}`. It is run for each deployment, and does nothing
    /// where there is nothing to do.
    pub fn new(run: Hook) -> Self {
        Self { run, rehearsal: None, prints_sql: false, allow_incompatible: false }
    }

    /// The command that says what the migration would do, and changes nothing.
    pub fn rehearsal(mut self, rehearsal: Hook) -> Self {
        self.rehearsal = Some(rehearsal);
        self
    }

    /// The rehearsal prints the SQL statements that the migration would execute, as many tools do
    /// when asked for a dry run. It is compatible if each of them is known to only add: `CREATE` of what
    /// was not there, `ADD COLUMN` that demands nothing, `INSERT`, `COMMENT`, `GRANT` and their kin. One
    /// that takes something away, renames it, changes rows, or refuses what the old version writes is
    /// not, and neither is one that is not known. The look through them is lexical, and made for
    /// PostgreSQL: what functions and `DO` blocks do is not known, and what some databases read in
    /// another way counts as incompatible.
    pub fn rehearsal_prints_sql(mut self) -> Self {
        self.prints_sql = true;
        self
    }

    /// Lets a migration run after which the old version cannot. Default: such a one is refused. Without
    /// a rehearsal, which would tell, every migration is then taken for such a one.
    pub fn allow_incompatible(mut self) -> Self {
        self.allow_incompatible = true;
        self
    }

    /// Why the old version could not run afterwards; empty if it could.
    pub(super) async fn rehearse(
        &self,
        version: &Version,
        cx: &RunContext,
    ) -> Result<Vec<Refusal>, Error> {
        let Some(rehearsal) = &self.rehearsal else { return Ok(Vec::new()) };
        let output = rehearsal.ended(version, cx).await?;
        if output.code == Some(INCOMPATIBLE) {
            let said = crate::gate::plain(&output.stderr_text());
            let colon = if said.is_empty() { "" } else { ": " };
            let why = format!("`{}` says that it is not compatible{colon}{said}", rehearsal.name);
            return Ok(vec![Refusal::new(why, REMEDY)]);
        }
        if !output.is_success() {
            let how = output.code.map_or("a signal".to_owned(), |code| format!("code {code}"));
            let error = format!("the rehearsal of the migration to {version} ended with {how}");
            return Err(Error::new(ErrorKind::Service, error)
                .with("output", crate::gate::plain(&output.stderr_text())));
        }
        if !self.prints_sql {
            return Ok(Vec::new());
        }
        if output.truncated {
            let error = format!("the rehearsal of the migration to {version} printed too much");
            return Err(Error::new(ErrorKind::Service, error)
                .remedy("let it say by its exit code whether the old version can run"));
        }
        let found = contracting(&output.stdout_text());
        Ok(found.into_iter().map(|why| Refusal::new(crate::gate::plain(&why), REMEDY)).collect())
    }

    pub(crate) fn check(&self) -> Vec<Refusal> {
        let mut refusals: Vec<_> = self
            .run
            .check()
            .into_iter()
            .chain(self.rehearsal.iter().flat_map(Hook::check))
            .collect();
        if self.prints_sql && self.rehearsal.is_none() {
            refusals.push(Refusal::new(
                "a migration without a rehearsal prints no SQL",
                "give the command that prints it",
            ));
        }
        refusals
    }
}
