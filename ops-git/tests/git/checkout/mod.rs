//! Checkout in place: as git does it, and back to the byte.

pub mod arena;
mod crash;
mod elsewhere;
mod faults;
mod generated;
mod table;
