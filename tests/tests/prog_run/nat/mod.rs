//! NAT by whole packets: RFC 4787 (U), 5382 (T), 5508 (I), 7857 (N), 6888 (C), each by its id.

mod elsewhere;
mod filtering;
mod forwarding;
mod fragments;
mod hairpin;
mod icmp;
mod icmp_errors;
mod limits;
mod mapping;
mod ports;
mod races;
mod shared;
mod static_nat;
mod tcp;
mod timeouts;
