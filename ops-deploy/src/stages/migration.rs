//! A change of a schema that comes with a version.

use ops_core::Refusal;

use super::hook::Hook;

/// The code with which a rehearsal says that the old version could not run after the migration.
pub(crate) const INCOMPATIBLE: i32 = 3;

/// A change of a schema that comes with a version, and stays when the operation goes back.
///
/// So it must let the old version run: add first, take away with a later version (*expand and
/// contract*). The rehearsal, which must change nothing, says whether it does: it ends with 0 if
/// so, and with 3 if the old version could not run afterwards. Such a migration is refused, unless
/// the settings say [`allow_incompatible`](Self::allow_incompatible); then the history notes that
/// the way back is closed, and a rollback across it asks for an explicit word.
#[derive(Debug, Clone)]
pub struct Migration {
    pub(crate) run: Hook,
    pub(crate) rehearsal: Option<Hook>,
    pub(crate) allow_incompatible: bool,
}

impl Migration {
    /// The command that migrates to `{version}`. It is run for each deployment, and does nothing
    /// where there is nothing to do.
    pub fn new(run: Hook) -> Self {
        Self { run, rehearsal: None, allow_incompatible: false }
    }

    /// The command that says what the migration would do, and changes nothing.
    pub fn rehearsal(mut self, rehearsal: Hook) -> Self {
        self.rehearsal = Some(rehearsal);
        self
    }

    /// Lets a migration run after which the old version cannot. Default: such a one is refused.
    pub fn allow_incompatible(mut self) -> Self {
        self.allow_incompatible = true;
        self
    }

    pub(crate) fn check(&self) -> Vec<Refusal> {
        self.run.check().into_iter().chain(self.rehearsal.iter().flat_map(Hook::check)).collect()
    }
}
