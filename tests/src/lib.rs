//! Topologies, packets and the kernel-level test tiers of netpath.
