//! The BPF object that this build embeds.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::DatapathError;

/// Gives the embedded bytes the alignment that an ELF parser reads them with.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/netpath.bpf.o")));

/// The object's bytes.
///
/// # Errors
/// [`DatapathError::NoObject`] when this build was made without a BPF toolchain.
pub fn bytes() -> Result<&'static [u8], DatapathError> {
    match &OBJECT.0 {
        [] => Err(DatapathError::NoObject),
        bytes => Ok(bytes),
    }
}

/// Tells this build's programs from another's: part of their pins' path. A mismatch costs a reload, nothing more. Programs that
/// were loaded while the kernel interpreted BPF stay interpreted, so they are others than those that it compiles.
///
/// # Errors
/// As [`bytes`].
pub fn fingerprint() -> Result<String, DatapathError> {
    let mut hasher = DefaultHasher::new();
    bytes()?.hash(&mut hasher);
    if is_interpreted() {
        "interpreted".hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Whether the kernel has its BPF compiler switched off.
fn is_interpreted() -> bool {
    fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").is_ok_and(|enabled| enabled.trim() == "0")
}
