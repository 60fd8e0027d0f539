//! Checkout in place: as git does it, and back to the byte.

pub mod arena;
mod crash;
mod crash_in_place;
mod elsewhere;
mod faults;
mod filters;
mod generated;
mod in_place;
mod linked;
mod noted_trees;
mod others;
mod submodules;
mod table;
