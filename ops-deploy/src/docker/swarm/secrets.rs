//! Secrets of services: objects of the Swarm, which only the tasks that have them can read.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::models::{
    Secret, SecretSpec, TaskSpecContainerSpecFile, TaskSpecContainerSpecSecrets as Mounted,
};
use bollard::query_parameters::ListSecretsOptionsBuilder;
use ops_core::{Refusal, StepContext, StepError};
use zeroize::Zeroizing;

use super::super::containers::{APPLICATION, OPERATION, SERVICE};
use super::super::engine::{Engine, Made, absent, status};
use super::{Swarm, SwarmService};
use crate::error::{Error, ErrorKind};

/// What a Swarm takes of a secret at most.
const MOST: u64 = 500 * 1024;
/// Only its owner reads it, the user 0 of the container.
const MODE: u32 = 0o400;

impl Engine {
    async fn create_swarm_secret(
        &self,
        name: &str,
        labels: HashMap<String, String>,
        value: &[u8],
    ) -> Result<Made, Error> {
        let docker = self.docker().await?;
        let spec = SecretSpec {
            name: Some(name.to_owned()),
            labels: Some(labels),
            data: Some(BASE64_STANDARD.encode(value)),
            ..SecretSpec::default()
        };
        let call = async {
            match docker.create_secret(spec).await {
                Ok(_) => Ok(Made::Now),
                Err(error) if status(&error) == Some(409) => Ok(Made::NameTaken),
                Err(error) => Err(error),
            }
        };
        self.bounded(format!("create the secret `{name}`"), self.deadline(), call).await
    }

    async fn swarm_secrets(&self, label: &str) -> Result<Vec<Secret>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListSecretsOptionsBuilder::default().filters(&filters).build();
        let call = docker.list_secrets(Some(options));
        self.bounded("list its secrets", self.deadline(), call).await
    }

    /// Removes a secret; `false` if a service has it.
    async fn remove_swarm_secret(&self, id: &str) -> Result<bool, Error> {
        let docker = self.docker().await?;
        let call = async {
            match absent(docker.delete_secret(id)).await {
                Err(error) if status(&error) == Some(400) => Ok(false),
                other => other.map(|_| true),
            }
        };
        self.bounded(format!("remove the secret {id}"), self.deadline(), call).await
    }
}

fn named(secret: &Secret) -> Option<&str> {
    secret.spec.as_ref()?.name.as_deref()
}

/// A file that grows, or that became a pipe, is neither read without end nor waited for.
fn read_secret(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let not_blocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options().read(true).custom_flags(not_blocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no file"));
    }
    // Room for all of it, so that no copy is left where it was smaller.
    let room = usize::try_from(MOST + 1).unwrap_or(usize::MAX);
    let mut value = Zeroizing::new(Vec::with_capacity(room));
    file.take(MOST + 1).read_to_end(&mut value)?;
    if value.len() == room {
        let error = format!("it has more than {MOST} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, error));
    }
    Ok(value)
}

/// What is wrong with the file of a secret.
fn wrong(file: &Path) -> Option<String> {
    match std::fs::metadata(file) {
        Ok(meta) if !meta.is_file() => Some("it is no file".into()),
        Ok(meta) if meta.len() == 0 => Some("it is empty".into()),
        Ok(meta) if meta.len() > MOST => Some(format!("it has more than {MOST} bytes")),
        Ok(_) => std::fs::File::open(file).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

impl SwarmService {
    pub(super) fn unreadable_secrets(&self) -> Vec<Refusal> {
        let wrong = self.secrets.iter().filter_map(|(name, file)| Some((name, file, wrong(file)?)));
        let refusals = wrong.map(|(secret, file, why)| {
            let (name, file) = (&self.name, file.display());
            let why = format!("the secret `{secret}` of `{name}` cannot be had of `{file}`: {why}");
            Refusal::new(why, "write it there, for this user to read")
        });
        refusals.collect()
    }
}

impl Swarm {
    fn secrets_label(&self) -> String {
        format!("{APPLICATION}={}", self.0.application)
    }

    /// Makes the secrets of a service for this operation. Their names are its own, so that what runs
    /// keeps what it has.
    pub(super) async fn make_secrets(
        &self,
        service: &SwarmService,
        cx: &StepContext,
    ) -> Result<Vec<Mounted>, StepError> {
        let operation = cx.operation().to_string();
        let labels = HashMap::from(
            [
                (APPLICATION, self.0.application.clone()),
                (SERVICE, service.name.clone()),
                (OPERATION, operation.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let mut mounted = Vec::new();
        for (n, (secret, file)) in service.secrets.iter().enumerate() {
            let object = format!("{}.{n}.{operation}", service.name);
            let path = file.clone();
            let read = cx.blocking(move |_| {
                read_secret(&path).map_err(|error| Error::io("read the secret in", &path, error))
            });
            let value = read.await?;
            cx.fault_point("swarm: secret about to be made");
            self.0.engine.create_swarm_secret(&object, labels.clone(), &value).await?;
            cx.fault_point("swarm: secret made");
            let all = self.0.engine.swarm_secrets(&self.secrets_label()).await?;
            let made = all.into_iter().find(|it| named(it) == Some(object.as_str()));
            let made = made.ok_or_else(|| {
                Error::new(ErrorKind::Engine, format!("the secret `{object}` is gone"))
                    .remedy("see who removes secrets there, and try again")
            })?;
            mounted.push(Mounted {
                file: Some(TaskSpecContainerSpecFile {
                    name: Some(secret.clone()),
                    uid: Some("0".into()),
                    gid: Some("0".into()),
                    mode: Some(MODE),
                }),
                secret_id: made.id,
                secret_name: Some(object),
            });
        }
        Ok(mounted)
    }

    /// Removes the application's secrets that no service has: those of earlier operations, or of
    /// this one when it goes back.
    pub(super) async fn remove_secrets(&self) -> Result<(), StepError> {
        if self.0.services.iter().all(|service| service.secrets.is_empty()) {
            return Ok(());
        }
        for secret in self.0.engine.swarm_secrets(&self.secrets_label()).await? {
            if let Some(id) = &secret.id {
                let _ = self.0.engine.remove_swarm_secret(id).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_of_a_bounded_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "hush").unwrap();
        assert_eq!(read_secret(&path).unwrap().as_slice(), b"hush");
        let most = usize::try_from(MOST).unwrap();
        std::fs::write(&path, vec![7; most]).unwrap();
        assert_eq!(read_secret(&path).unwrap().len(), most);
        std::fs::write(&path, vec![7; most + 1]).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("more than"));
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert_eq!(read_secret(&path).unwrap_err().to_string(), "it is no file");
    }
}
