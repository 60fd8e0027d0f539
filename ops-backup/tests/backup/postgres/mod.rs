//! Databases of a real server.

mod cluster;
mod drill;
mod encrypted;
mod forged;
mod live;
mod maintenance;
mod museum;
mod older;
mod part;
mod refusals;
mod replica;
mod rows;
mod server;
mod undo;
mod wide;
