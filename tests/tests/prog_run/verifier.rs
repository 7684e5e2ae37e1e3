//! What the kernel's verifier makes of the programs.

use crate::rig::Rig;

/// Instructions that the verifier of any kernel looks at before it gives a program up.
const PATIENCE: u32 = 1_000_000;

#[test]
fn every_program_asks_for_less_than_half_of_the_verifiers_patience() {
    let looked_at = Rig::new().looked_at();
    println!("{looked_at:#?}");
    assert!(looked_at.len() > 10 && looked_at.values().all(|count| (1..PATIENCE / 2).contains(count)), "{looked_at:?}");
}
