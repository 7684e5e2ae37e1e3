//! The real bytecode through `BPF_PROG_TEST_RUN`: whole packets in and out, compared byte for byte.

mod answer;
mod drops;
mod drops_routed;
mod egress;
mod event;
mod forward;
mod from_guest;
mod from_uplink;
mod fuzz;
mod gateway;
mod icmp_error;
mod limits;
mod nat;
mod not_ours;
mod public;
mod rig;
mod router;
mod tiers;
mod too_big;
mod verifier;
