//! netpath's loader: definitions, reconciliation and the data path's user side.

pub mod cli;
pub mod datapath;
pub mod compile;
pub mod definitions;
pub mod error;
pub mod netlink;
pub mod reconcile;
