//! Databases of a real server.

mod live;
mod museum;
mod refusals;
mod server;
