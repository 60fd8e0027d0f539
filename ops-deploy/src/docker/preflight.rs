//! What must hold on the engine before a deployment: every finding at once.

use std::collections::BTreeMap;

use ops_core::{Refusal, StepContext, StepError, Version};

use super::host::DockerHost;
use super::releases::{complete, short};
use super::spec::{ContainerSpec, Network};
use crate::error::{Error, ErrorKind};

fn pins_key(version: &Version) -> String {
    format!("images of {version}")
}

impl DockerHost {
    /// The images with which the operation brings a version.
    pub(super) fn pinned(
        version: &Version,
        cx: &StepContext,
    ) -> Result<BTreeMap<String, String>, StepError> {
        cx.noted(&pins_key(version))?.ok_or_else(|| {
            StepError::permanent(format!("the images of {version} are not pinned"))
                .remedy("require them before, in the same operation")
        })
    }

    /// Every reason why these images cannot be deployed now.
    pub(super) async fn preflight(
        &self,
        version: &Version,
        images: &BTreeMap<String, String>,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let mut refusals = Vec::new();
        for service in &self.0.services {
            // Images that are made by the operation itself are pinned when they are there.
            if !images.is_empty() {
                refusals.extend(self.image_in_place(service, version, images).await?);
            }
            refusals.extend(self.surroundings(service, cx).await?);
        }
        Ok(refusals)
    }

    /// The tag still names the image that the plan names.
    async fn image_in_place(
        &self,
        service: &ContainerSpec,
        version: &Version,
        images: &BTreeMap<String, String>,
    ) -> Result<Option<Refusal>, Error> {
        let (name, tag) = (&service.name, service.tag(version));
        let Some(pinned) = images.get(name) else {
            let reason = format!("the plan names no image for the service `{name}`");
            return Ok(Some(Refusal::new(reason, "plan again")));
        };
        let now = self.0.engine.image(&tag).await?.and_then(|image| image.id);
        Ok(match now {
            Some(now) if now == *pinned => None,
            Some(now) => Some(Refusal::new(
                format!("the tag `{tag}` has moved from {} to {}", short(pinned), short(&now)),
                "build what is new under a version of its own, and plan again",
            )),
            None => Some(Refusal::new(
                format!("there is no image `{tag}` any more"),
                "bring it back to the engine, and plan again",
            )),
        })
    }

    async fn surroundings(
        &self,
        service: &ContainerSpec,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, Error> {
        let name = &service.name;
        let mut refusals = Vec::new();
        refusals.extend(self.lacks_port(service).await?);
        if let Network::Named { name: network, .. }
        | Network::Published { network: Some(network), .. } = &service.network
        {
            let found = self.0.engine.networks(network).await?.len();
            if found != 1 {
                refusals.push(Refusal::new(
                    format!(
                        "there are {found} networks named `{network}`, service `{name}` needs one"
                    ),
                    "create it, or remove what has the same name (docker network)",
                ));
            }
        }
        for (variable, value) in &service.environment {
            if cx.context().redactor().finds_in(value) {
                refusals.push(Refusal::new(
                    format!("the variable `{variable}` of service `{name}` holds a secret"),
                    "give it as a file: whoever may inspect a container reads its environment",
                ));
            }
        }
        if self.0.engine.is_local() {
            for (secret, file) in &service.secrets {
                let readable = tokio::fs::metadata(file).await.is_ok_and(|meta| meta.is_file());
                if !readable {
                    refusals.push(Refusal::new(
                        format!(
                            "the secret `{secret}` of service `{name}` is no file: `{}`",
                            file.display()
                        ),
                        "write it there",
                    ));
                }
            }
        }
        Ok(refusals)
    }

    pub(super) async fn require(
        &self,
        version: &Version,
        images: &BTreeMap<String, String>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let refusals = self.preflight(version, images, cx).await?;
        if refusals.is_empty() {
            let pins = async {
                if !images.is_empty() {
                    return Ok(images.clone());
                }
                let status = self.look().await?;
                Ok(complete(version, &status.releases)?.images.clone())
            };
            let _: BTreeMap<String, String> = cx.observe(&pins_key(version), pins).await?;
            return Ok(());
        }
        let error = Error::new(
            ErrorKind::IncompleteVersion,
            format!("version `{version}` cannot be deployed here"),
        );
        Err(error.refusals(refusals).into())
    }
}
