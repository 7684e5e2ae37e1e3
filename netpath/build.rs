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
    // OUT_DIR is <target>[/<triple>]/<profile>/build/netpath-<hash>/out: all of them share one BPF target folder.
    let above_profile = out.ancestors().nth(4).expect("OUT_DIR is five deep");
    let triple = env::var_os("TARGET").expect("cargo sets it");
    let target = if above_profile.ends_with(triple) { above_profile.parent() } else { Some(above_profile) };
    let target = target.expect("a triple's folder lies in the target folder");

    for dir in ["netpath-ebpf", "netpath-common"] {
        println!("cargo:rerun-if-changed={}", workspace.join(dir).join("src").display());
        println!("cargo:rerun-if-changed={}", workspace.join(dir).join("Cargo.toml").display());
    }

    let object = out.join("netpath.bpf.o");
    let wanted = [("CARGO_FEATURE_ABI_NEXT", "abi-next"), ("CARGO_FEATURE_LOG", "log")];
    let features: Vec<_> =
        wanted.iter().filter(|(variable, _)| env::var_os(variable).is_some()).map(|(_, feature)| *feature).collect();
    match netpath_bpf_build::build(workspace, &target.join("bpf"), &features) {
        Ok(built) => {
            fs::copy(&built, &object).expect("the object was just built");
        }
        Err(error @ BuildError::NoToolchain(_)) => {
            println!("cargo:warning={error}; this binary cannot load the data path");
            fs::write(&object, []).expect("OUT_DIR is writable");
            // A file that never is: cargo asks again at the next build, when the toolchain may have come.
            println!("cargo:rerun-if-changed={}", out.join("toolchain").display());
        }
        Err(error) => {
            println!("cargo::error={error}");
        }
    }
}
