//! What every restore asks for alike, whatever it writes to.

use ops_core::{Environment, Refusal};

use crate::manifest::Manifest;

/// The setters of the options that every restore has.
macro_rules! allowances {
    ($options:ident) => {
        impl $options {
            /// Takes this source of the backup.
            pub fn component(mut self, component: SourceSpec) -> Self {
                self.component = Some(component);
                self
            }

            /// Lets a backup of another source replace what is there.
            pub fn allow_other_source(mut self) -> Self {
                self.other_source = true;
                self
            }

            /// Lets a backup of another environment be restored.
            pub fn allow_other_environment(mut self) -> Self {
                self.other_environment = true;
                self
            }
        }
    };
}
pub(crate) use allowances;

/// Why a backup of another environment is not restored here.
pub(crate) fn environment(
    manifest: &Manifest,
    here: Environment,
    allowed: bool,
) -> Option<Refusal> {
    (manifest.environment != here && !allowed).then(|| {
        Refusal::new(
            format!("backup {} was made in {}, this is {here}", manifest.id, manifest.environment),
            "choose a backup of this environment, or allow another in the options",
        )
    })
}
