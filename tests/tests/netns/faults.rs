//! What `cargo xtask faults` makes two hundred of, once.

use netpath_tests::faults::{Options, run};

#[test]
fn every_kind_of_fault_is_survived_once() {
    let report = run(&Options { count: None, seed: 1, only: Vec::new() }).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tried(), report.kinds());
}
