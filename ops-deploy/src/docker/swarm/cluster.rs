//! The calls to a manager: services, tasks and config objects.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    Config, ConfigSpec, NodeSpecAvailabilityEnum, NodeState, Service, ServiceSpec, Task,
};
use bollard::query_parameters::{
    ListConfigsOptionsBuilder, ListNetworksOptionsBuilder, ListNodesOptions, ListServicesOptions,
    ListTasksOptionsBuilder, UpdateConfigOptionsBuilder, UpdateServiceOptionsBuilder,
};

use super::super::engine::{Engine, Made, absent, status};
use crate::error::{Error, ErrorKind};

/// Any data: a config object must have some.
const DATA: &str = "bG9jaw==";

/// Whether a compare-and-swap has won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swap {
    Won,
    Lost,
}

/// A stale version answers 500, and only its words tell.
fn is_stale(error: &bollard::errors::Error) -> bool {
    status(error).is_some_and(|code| code >= 400) && error.to_string().contains("out of sequence")
}

impl Engine {
    pub(super) async fn swarm_service(&self, name: &str) -> Result<Option<Service>, Error> {
        let docker = self.docker().await?;
        let call = absent(docker.inspect_service(name, None));
        self.bounded(format!("show the service `{name}`"), self.deadline(), call).await
    }

    pub(super) async fn swarm_services(&self) -> Result<Vec<Service>, Error> {
        let docker = self.docker().await?;
        let call = docker.list_services(None::<ListServicesOptions>);
        self.bounded("list its services", self.deadline(), call).await
    }

    /// The names and ids of the networks that span nodes.
    pub(super) async fn overlays(&self) -> Result<BTreeSet<String>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("driver", vec!["overlay"])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let call = docker.list_networks(Some(options));
        let found = self.bounded("list its networks", self.deadline(), call).await?;
        Ok(found.into_iter().flat_map(|network| [network.id, network.name]).flatten().collect())
    }

    /// The nodes that take tasks.
    pub(super) async fn usable_nodes(&self) -> Result<usize, Error> {
        let docker = self.docker().await?;
        let call = docker.list_nodes(None::<ListNodesOptions>);
        let nodes = self.bounded("list its nodes", self.deadline(), call).await?;
        let usable = nodes.into_iter().filter(|node| {
            let ready = node.status.as_ref().and_then(|status| status.state);
            let takes = node.spec.as_ref().and_then(|spec| spec.availability);
            ready == Some(NodeState::READY) && takes == Some(NodeSpecAvailabilityEnum::ACTIVE)
        });
        Ok(usable.count())
    }

    /// Replaces the whole specification, if the service is still at this version.
    pub(super) async fn update_swarm_service(
        &self,
        name: &str,
        spec: ServiceSpec,
        version: u64,
    ) -> Result<Swap, Error> {
        let docker = self.docker().await?;
        let version = i32::try_from(version).map_err(|_| {
            Error::new(ErrorKind::Engine, format!("the service `{name}` is at version {version}"))
                .remedy("this program counts to 2147483647; create the service anew")
        })?;
        let options = UpdateServiceOptionsBuilder::default().version(version).build();
        let call = async {
            match docker.update_service(name, spec, options, None).await {
                Ok(_) => Ok(Swap::Won),
                Err(error) if is_stale(&error) => Ok(Swap::Lost),
                Err(error) => Err(error),
            }
        };
        self.bounded(format!("update the service `{name}`"), self.deadline(), call).await
    }

    pub(super) async fn tasks(&self, service: &str) -> Result<Vec<Task>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("service", vec![service])]);
        let options = ListTasksOptionsBuilder::default().filters(&filters).build();
        let call = docker.list_tasks(Some(options));
        self.bounded(format!("list the tasks of `{service}`"), self.deadline(), call).await
    }

    pub(super) async fn config(&self, name: &str) -> Result<Option<Config>, Error> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("name", vec![name])]);
        let options = ListConfigsOptionsBuilder::default().filters(&filters).build();
        let call = docker.list_configs(Some(options));
        let all = self.bounded("list its config objects", self.deadline(), call).await?;
        let named = |config: &Config| {
            config.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name)
        };
        Ok(all.into_iter().find(named))
    }

    pub(super) async fn create_config(
        &self,
        name: &str,
        labels: HashMap<String, String>,
    ) -> Result<Made, Error> {
        let docker = self.docker().await?;
        let spec = ConfigSpec {
            name: Some(name.to_owned()),
            labels: Some(labels),
            data: Some(DATA.to_owned()),
            templating: None,
        };
        let call = async {
            match docker.create_config(spec).await {
                Ok(_) => Ok(Made::Now),
                Err(error) if status(&error) == Some(409) => Ok(Made::NameTaken),
                Err(error) => Err(error),
            }
        };
        self.bounded(format!("create the config `{name}`"), self.deadline(), call).await
    }

    /// Replaces the labels of a config object, if it is still as it was seen.
    pub(super) async fn relabel_config(
        &self,
        seen: &Config,
        labels: HashMap<String, String>,
    ) -> Result<Swap, Error> {
        let docker = self.docker().await?;
        let id = seen.id.clone().unwrap_or_default();
        let index = seen.version.as_ref().and_then(|version| version.index).unwrap_or_default();
        let spec = ConfigSpec { labels: Some(labels), ..seen.spec.clone().unwrap_or_default() };
        let version = i64::try_from(index).unwrap_or(i64::MAX);
        let options = UpdateConfigOptionsBuilder::default().version(version).build();
        let call = async {
            match docker.update_config(&id, spec, options).await {
                Ok(()) => Ok(Swap::Won),
                Err(error) if is_stale(&error) || status(&error) == Some(404) => Ok(Swap::Lost),
                Err(error) => Err(error),
            }
        };
        self.bounded(format!("update the config {id}"), self.deadline(), call).await
    }

    pub(super) async fn remove_config(&self, id: &str) -> Result<(), Error> {
        let docker = self.docker().await?;
        let call = absent(docker.delete_config(id));
        self.bounded(format!("remove the config {id}"), self.deadline(), call).await.map(drop)
    }
}
