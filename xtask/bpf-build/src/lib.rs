//! Which toolchain builds the BPF object, and how: the one place for both facts.
//!
//! `cargo xtask setup` installs what is named here; `netpath`'s build script calls [`build`].
//!
//! The BPF target has no prebuilt `core`, so it needs a compiler together with its own sources. Two ways
//! are known to work and are tried in this order:
//!
//! 1. a dated nightly with `rust-src`, from rustup;
//! 2. Debian's `rustc-web`, `cargo-web` and `rust-web-src`, with unstable flags allowed by `RUSTC_BOOTSTRAP`.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// The dated nightly of the first way.
pub const NIGHTLY: &str = "nightly-2026-05-20";
/// The linker that turns LLVM bitcode into a BPF object, with the version that fits both compilers' LLVM 22.
pub const BPF_LINKER_VERSION: &str = "0.10.3";
/// Debian packages of the second way.
pub const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// Debian package of the second way's clippy.
pub const DEBIAN_CLIPPY: &str = "rust-web-clippy";
/// Little-endian BPF, no operating system.
pub const TARGET: &str = "bpfel-unknown-none";

/// Where Debian's packages put the compiler and the sources it looks for.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CARGO_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// A compiler that can build the BPF object on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup's dated nightly with `rust-src`.
    Nightly,
    /// Debian's packaged compiler.
    Debian,
}

/// Why no object was built.
#[derive(Debug)]
pub enum BuildError {
    /// Neither way has its compiler, or `bpf-linker` is missing.
    NoToolchain(String),
    /// The compiler ran and failed; its own output has been printed.
    Failed(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToolchain(what) => {
                write!(f, "no BPF toolchain: {what}; run `cargo xtask setup`")
            }
            Self::Failed(what) => write!(f, "the BPF object did not build: {what}"),
        }
    }
}

impl std::error::Error for BuildError {}

impl Toolchain {
    /// The first usable way on this machine, if any.
    pub fn find() -> Option<Self> {
        [Self::Nightly, Self::Debian].into_iter().find(Self::has_sources)
    }

    /// Whether this compiler has clippy.
    pub fn has_clippy(&self) -> bool {
        match self {
            Self::Nightly => self.sysroot().is_some_and(|root| root.join("bin/cargo-clippy").exists()),
            Self::Debian => Path::new(DEBIAN_CARGO_CLIPPY).exists(),
        }
    }

    /// Whether this compiler is there, with the sources of `core`.
    fn has_sources(&self) -> bool {
        self.sysroot().is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists())
    }

    /// Where this compiler's libraries are; `None` if there is no such compiler.
    fn sysroot(&self) -> Option<PathBuf> {
        let mut rustc = match self {
            Self::Nightly => {
                let mut rustc = clean(Command::new("rustc"));
                // A missing toolchain is an answer here, not something to download.
                rustc.arg(format!("+{NIGHTLY}")).env("RUSTUP_AUTO_INSTALL", "0");
                rustc
            }
            Self::Debian => clean(Command::new(DEBIAN_RUSTC)),
        };
        let out = rustc.args(["--print", "sysroot"]).output().ok()?;
        out.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()))
    }

    /// This toolchain's `cargo VERB`, free of the outer cargo's environment.
    fn cargo(&self, verb: &str) -> Command {
        let mut cargo = match self {
            Self::Nightly => {
                let mut cargo = clean(Command::new("cargo"));
                cargo.arg(format!("+{NIGHTLY}"));
                cargo
            }
            Self::Debian => {
                // As a subcommand of Debian's cargo, clippy would be the first on the PATH: rustup's.
                let mut cargo = clean(Command::new(if verb == "clippy" { DEBIAN_CARGO_CLIPPY } else { DEBIAN_CARGO }));
                cargo.env("CARGO", DEBIAN_CARGO).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        cargo.arg(verb);
        cargo
    }
}

/// A command without what an outer cargo or rustup set for its own compiler.
fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let outer = text.starts_with("CARGO_") && text != "CARGO_HOME" && text != "CARGO_NET_OFFLINE"
            || text.starts_with("RUSTC")
            || text == "RUSTUP_TOOLCHAIN"
            || text == "RUSTFLAGS"
            || text == "RUSTDOC"
            || text == "CARGO";
        if outer {
            command.env_remove(&name);
        }
    }
    command
}

/// What rustc is told for the BPF target, as one `CARGO_ENCODED_RUSTFLAGS` value.
///
/// BTF comes from debug info; CPU v3 (Linux 5.12) is needed where the old value of an atomic is used. Expanding copies
/// "in order" would leave every `memset`, of three bytes even, a call of a byte loop.
pub fn rustflags() -> OsString {
    [
        "--cfg=bpf_target_arch=\"x86_64\"",
        "-Cdebuginfo=2",
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
        "-Clink-arg=--disable-expand-memcpy-in-order",
    ]
    .join("\x1f")
    .into()
}

/// A cargo command (`build`, `clippy`, …) over `netpath-ebpf` for the BPF target.
///
/// # Errors
/// [`BuildError::NoToolchain`] names what is missing.
pub fn cargo(verb: &str, workspace: &Path, target_dir: &Path) -> Result<Command, BuildError> {
    let toolchain = Toolchain::find().ok_or_else(|| {
        BuildError::NoToolchain(format!(
            "neither {NIGHTLY} with rust-src nor Debian's {} is installed",
            DEBIAN_PACKAGES.join(", ")
        ))
    })?;
    if Command::new("bpf-linker").arg("--version").output().is_err() {
        return Err(BuildError::NoToolchain("bpf-linker is not on the PATH".into()));
    }
    let mut cargo = toolchain.cargo(verb);
    cargo
        .args(["--package", "netpath-ebpf", "--release", "-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags());
    Ok(cargo)
}

/// Builds the BPF object with some of the package's features, and answers its path.
///
/// # Errors
/// [`BuildError`], with the next step in its text.
pub fn build(workspace: &Path, target_dir: &Path, features: &[&str]) -> Result<PathBuf, BuildError> {
    let status = cargo("build", workspace, target_dir)?
        .args(["--features", &features.join(",")])
        .status()
        .map_err(|e| BuildError::Failed(format!("cargo did not start: {e}")))?;
    if !status.success() {
        return Err(BuildError::Failed(format!("cargo ended with {status}")));
    }
    Ok(target_dir.join(TARGET).join("release/netpath"))
}
