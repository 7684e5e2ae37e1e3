//! What the netpath data path and its loader share.
#![no_std]
