//! A host's part of a zone as rows, and the edits between two states of a host.

mod epochs;
mod gateway;
mod host;
mod limits;
mod policy;
mod public;
mod random;
mod rows;
mod stability;
