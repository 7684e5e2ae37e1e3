//! Topologies, packets and the kernel-level test tiers of netpath.
//!
//! A test arranges a [`topology`] of namespaces, sends [`packet`]s from [`guest`]s, drives the `netpath` binary
//! through [`runner`] and compares what arrived byte for byte. Whatever a test cannot do on a kernel it says with
//! [`skip`], so that a skip never looks like a pass.

pub mod agent;
pub mod bench;
pub mod connections;
pub mod demo;
pub mod faults;
pub mod guest;
pub mod metrics;
pub mod monitor;
pub mod oracle;
pub mod pace;
pub mod packet;
pub mod process;
pub mod pty;
pub mod runner;
pub mod service_manager;
pub mod skip;
pub mod topology;
