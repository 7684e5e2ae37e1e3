//! A host's part of a zone as rows, and the edits between two states of a host.

mod host;
mod random;
mod rows;
mod stability;
