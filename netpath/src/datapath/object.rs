//! The BPF object that this build embeds.

use std::hash::{DefaultHasher, Hash, Hasher};

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

/// Tells this build's programs from another's: part of their pins' path. A mismatch costs a reload, nothing more.
///
/// # Errors
/// As [`bytes`].
pub fn fingerprint() -> Result<String, DatapathError> {
    let mut hasher = DefaultHasher::new();
    bytes()?.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}
