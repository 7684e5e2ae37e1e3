//! Builds the BPF object and leaves it where `datapath::load` embeds it from.
//!
//! Without a BPF toolchain the loader still builds, with an empty object that it refuses to load, so that
//! definitions can be worked on anywhere.

use std::{env, fs, path::PathBuf};

use netpath_bpf_build::BuildError;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.parent().expect("netpath lies in the workspace");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    // OUT_DIR is <target>/<profile>/build/netpath-<hash>/out: every profile shares one BPF target folder.
    let target = out.ancestors().nth(4).expect("OUT_DIR is five deep");

    for dir in ["netpath-ebpf", "netpath-common"] {
        println!("cargo:rerun-if-changed={}", workspace.join(dir).join("src").display());
        println!("cargo:rerun-if-changed={}", workspace.join(dir).join("Cargo.toml").display());
    }
    println!("cargo:rerun-if-env-changed=PATH");

    let object = out.join("netpath.bpf.o");
    match netpath_bpf_build::build(workspace, &target.join("bpf")) {
        Ok(built) => {
            fs::copy(&built, &object).expect("the object was just built");
        }
        Err(error @ BuildError::NoToolchain(_)) => {
            println!("cargo:warning={error}; this binary cannot load the data path");
            fs::write(&object, []).expect("OUT_DIR is writable");
        }
        Err(error) => {
            println!("cargo::error={error}");
        }
    }
}
