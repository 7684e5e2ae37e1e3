//! How much a test can ask of the machine that it runs on.

use std::{fs, sync::OnceLock};

/// Whether the processor is emulated in software, as in the VM tier: some twenty times slower than this machine.
pub fn is_emulated() -> bool {
    static EMULATED: OnceLock<bool> = OnceLock::new();
    *EMULATED.get_or_init(|| fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG")))
}

/// `amount`, or a tenth of it (at least one) where the processor is emulated.
pub fn paced(amount: usize) -> usize {
    if is_emulated() { amount.div_ceil(10) } else { amount }
}
