//! netpath on hypervisors made of namespaces: real guests, real wires, and the kernel's own devices as peers.
//!
//! The topology, the tenants and their addresses are [`netpath_tests::topology::TwoHypervisors`]: for both tenants
//! NIC 11 and 13 are on hv1, and NIC 12 is on hv2, with the same MAC and IP addresses.

mod agent;
mod antispoof;
mod arp;
mod attachments;
mod beside;
mod capture;
mod coexistence;
mod differential;
mod doctor;
mod faults;
mod flood;
mod forwarding;
mod gateway;
mod history;
mod interop;
mod isolation;
mod lifecycle;
mod limits;
mod lost;
mod metrics;
mod monitor;
mod mutation;
mod nat;
mod rates;
mod refusals;
mod scene;
mod security;
mod service;
mod survival;
mod too_big;
mod top;
mod topology;
mod trace;
mod traffic;
mod tunnel;
mod uplinks;
mod visibility;
mod vlan;
