//! Where an operation runs, and what that place asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::effect::EffectKind;
use crate::error::{Error, ErrorKind};

/// Where an operation runs.
///
/// The default is [`Production`](Self::Production), the place that asks for most: whoever runs
/// elsewhere says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A developer's machine.
    Development,
    /// A rehearsal of production.
    Staging,
    /// What users depend on.
    #[default]
    Production,
}

impl Environment {
    /// Every environment, in order of care.
    pub const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// Whether a step with this effect needs an approval here: whatever destroys, everywhere, and
    /// in production whatever is not a mere reading.
    pub fn needs_approval(self, effect: EffectKind) -> bool {
        match effect {
            EffectKind::Reads => false,
            EffectKind::Destroys => true,
            EffectKind::Changes | EffectKind::Retained => self == Self::Production,
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        })
    }
}

impl FromStr for Environment {
    type Err = Error;

    /// Reads `development`, `staging` or `production`, and the short forms `dev`, `stage`, `prod`,
    /// in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "development" | "dev" => Ok(Self::Development),
            "staging" | "stage" => Ok(Self::Staging),
            "production" | "prod" => Ok(Self::Production),
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("no environment `{text}`"))
                .remedy("use `development`, `staging` or `production`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_approval_where() {
        use EffectKind::*;
        for (environment, effect, needed) in [
            (Environment::Development, Reads, false),
            (Environment::Development, Changes, false),
            (Environment::Development, Retained, false),
            (Environment::Development, Destroys, true),
            (Environment::Staging, Changes, false),
            (Environment::Staging, Destroys, true),
            (Environment::Production, Reads, false),
            (Environment::Production, Changes, true),
            (Environment::Production, Retained, true),
            (Environment::Production, Destroys, true),
        ] {
            assert_eq!(environment.needs_approval(effect), needed, "{environment} {effect:?}");
        }
    }

    #[test]
    fn names_round_trip_and_rubbish_is_refused() {
        for environment in Environment::ALL {
            assert_eq!(environment.to_string().parse::<Environment>().unwrap(), environment);
        }
        let error = "live".parse::<Environment>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no environment `live`; use `development`, `staging` or `production`"
        );
    }
}
