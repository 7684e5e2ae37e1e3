//! Definitions: one YAML document describes a zone, and each host takes its own part of it.
//!
//! [`load()`] reads a file into a [`Zone`] that is checked as a whole: every error of the document comes back at once,
//! each with its place. Nothing here knows the host it runs on.

mod capacities;
mod check;
mod counts;
mod decode;
mod derived;
mod findings;
mod force;
mod load;
mod merge;
mod model;
mod node;
mod per_network;
mod placement;
mod rates;
mod schema;
mod values;

pub use self::{
    capacities::Capacities,
    counts::Counts,
    decode::{At, Policy, Several},
    findings::{DefinitionsError, Finding, Pos},
    force::not_in_force,
    load::{LIMIT_MIB, documents_in, is_document, is_same_text, load, parse, parse_applied, read},
    model::*,
    per_network::{ByNetwork, PerNetwork},
    placement::wire_mac,
    rates::RateLimit,
    schema::schema,
    values::*,
};
