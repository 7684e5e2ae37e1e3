//! Kernel modules in the order in which they can be loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::kernels::Unpacked;

/// Devices of the tests: guests, uplinks, the underlay and the peers. Nothing loads by itself, there is no modprobe.
const DEVICES: [&str; 7] = ["veth", "tun", "vxlan", "bridge", "8021q", "dummy", "bonding"];
/// Where TC programs hang, on every kernel and below tcx, and what the preflight looks for on a guest's device.
const TRAFFIC_CONTROL: [&str; 6] = ["sch_ingress", "cls_bpf", "act_gact", "sch_htb", "sch_fq", "sch_netem"];
/// The algorithm that libcrc32c asks for by name, where it is a module, and netfilter, which needs it.
const NETFILTER: [&str; 2] = ["crc32c_generic", "nf_tables"];

/// A module's name and its plain ELF file.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) image: Vec<u8>,
}

/// All that the tests want, each after what it depends on; what is built into the kernel is left out.
///
/// # Errors
/// A wanted module that this kernel does not have.
pub(crate) fn closure(kernel: &Unpacked) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&kernel.modules.join("kernel"), &mut files)?;
    let builtin = fs::read_to_string(kernel.modules.join("modules.builtin"))?;
    let mut loader = Loader { files, builtin: builtin.lines().map(module_name).collect(), loaded: Vec::new() };
    DEVICES.iter().chain(&TRAFFIC_CONTROL).chain(&NETFILTER).try_for_each(|name| loader.add(name))?;
    Ok(loader.loaded)
}

struct Loader {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    loaded: Vec<Module>,
}

impl Loader {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.builtin.contains(name) || self.loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let file = self.files.get(name).with_context(|| format!("this kernel has no module {name}"))?;
        let image = read(file)?;
        for dependency in depends(&image) {
            self.add(&dependency)?;
        }
        self.loaded.push(Module { name: name.to_owned(), image });
        Ok(())
    }
}

/// Every module file under a folder, by module name.
fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(module_name(&path.to_string_lossy()), path);
        }
    }
    Ok(())
}

/// The kernel's name for the module in this file: no folder, no suffix, `_` for `-`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// A module file's content, uncompressed: 6.1 ships plain files, later kernels xz.
fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|suffix| suffix == "ko") {
        return Ok(fs::read(file)?);
    }
    let out = Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output().context("cannot start xz")?;
    if !out.status.success() {
        bail!("xz cannot unpack {}", file.display());
    }
    Ok(out.stdout)
}

/// The modules that `depends=` of the `.modinfo` section names.
fn depends(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = image.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = image[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::{depends, module_name};

    #[test]
    fn a_module_is_named_as_the_kernel_names_it() {
        assert_eq!(module_name("kernel/net/sched/act-gact.ko.xz"), "act_gact");
        assert_eq!(module_name("8021q.ko"), "8021q");
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let image = b"\x7fELF\0license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0";
        assert_eq!(depends(image), ["udp_tunnel", "ip6_udp_tunnel"]);
        assert!(depends(b"\0depends=\0retpoline=Y\0").is_empty());
    }
}
