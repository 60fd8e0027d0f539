//! Releases as images, services as containers, on one Docker engine.
//!
//! A release is complete when every service has an image whose tag is the version, and none of
//! these tags has moved since the version was first deployed. A deployment takes the lock on the
//! engine, looks whether the state is what it was planned for, starts the new containers beside the
//! old ones from images that are pinned by id, asks each of them which version it is, switches the
//! traffic, asks the public address, writes the history, and commits. Only then do the old
//! containers answer their last requests and stop; the previous ones are kept, so that a rollback
//! has but to start them.
//!
//! What runs is told by labels on the containers, so that another machine finds its way: see
//! [`DockerHost`].

mod address;
mod builder;
mod cleanup;
mod containers;
mod engine;
mod gate;
mod history;
mod host;
mod hosts;
mod lock;
mod plan;
mod preflight;
mod releases;
mod spec;
mod stages;
mod start;
mod status;
mod step;
mod survey;
mod swarm;
mod switch;
mod transport;
mod watch;

pub use address::EngineAddress;
pub use builder::DockerHostBuilder;
pub use containers::{Container, ContainerState};
pub use host::DockerHost;
pub use hosts::DockerHosts;
pub use releases::Release;
pub use spec::{ContainerSpec, Network};
pub use status::Status;
pub use step::DockerStep;
pub use swarm::{Swarm, SwarmBuilder, SwarmService, SwarmStatus, SwarmStep, Task};
