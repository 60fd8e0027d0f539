//! Databases of a real server.

mod live;
mod maintenance;
mod museum;
mod refusals;
mod server;
