//! The real bytecode through `BPF_PROG_TEST_RUN`: whole packets in and out, compared byte for byte.

/// The kernel has what the programs are built on: BTF of its own.
#[test]
fn the_kernel_describes_its_types() {
    assert!(std::path::Path::new("/sys/kernel/btf/vmlinux").exists());
}
