//! netpath's loader: definitions, reconciliation and the data path's user side.

#[cfg(all(feature = "abi-next", not(debug_assertions)))]
compile_error!("the feature abi-next is for tests of upgrades: no release has it");

pub mod agent;
mod applied;
pub mod apply;
pub mod cli;
pub mod compile;
pub mod datapath;
pub mod definitions;
pub mod doctor;
pub mod error;
pub mod filter;
pub mod headers;
pub mod history;
pub mod metrics;
pub mod netlink;
pub mod pcap;
pub mod preflight;
pub mod reconcile;
mod usage;
mod when;
