//! What files under /proc and /sys say, below any folder that has them.

use std::{collections::BTreeMap, fs, path::Path};

use rustix::process::{Resource, getrlimit};

use crate::doctor::host::{BRIDGE_CALLS, Interrupt, System};

/// Words of interrupts that bring no packets.
const NO_RECEIVE_QUEUES: [&str; 6] = ["async", "config", "output", "mgmnt", "admin", "cmd"];

/// Reads below `root`; `devices` are those whose settings are wanted.
pub(in crate::doctor) fn read(root: &Path, devices: &[&str]) -> System {
    let settings = |name: &str| {
        let of = |device: &&str| {
            let path = root.join("proc/sys/net/ipv4/conf").join(device).join(name);
            Some(((*device).to_owned(), number(&path)?))
        };
        devices.iter().chain(&["all"]).filter_map(of).collect::<BTreeMap<_, _>>()
    };
    let sysctl = |path: &str| number(&root.join("proc/sys").join(path));
    System {
        kernel: kernel(&text(&root.join("proc/sys/kernel/osrelease"))),
        jit: sysctl("net/core/bpf_jit_enable"),
        jit_harden: sysctl("net/core/bpf_jit_harden"),
        unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
        bridge_calls: BRIDGE_CALLS
            .into_iter()
            .filter(|name| sysctl(&format!("net/bridge/{name}")) == Some(1))
            .collect(),
        processors: processors(&text(&root.join("sys/devices/system/cpu/online"))),
        governors: governors(&root.join("sys/devices/system/cpu")),
        has_vhost_net: root.join("dev/vhost-net").exists(),
        rp_filter: settings("rp_filter"),
        forwarding: settings("forwarding"),
        interrupts: interrupts(root, devices),
        memlock: getrlimit(Resource::Memlock).current,
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> Option<u32> {
    text(path).trim().parse().ok()
}

/// Major and minor of `6.1.0-18-amd64`.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// How many processors `0-3,8` are.
fn processors(online: &str) -> usize {
    let range = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()? + 1 - first.parse::<usize>().ok()?)
    };
    online.trim().split(',').filter_map(range).sum()
}

fn governors(cpu: &Path) -> BTreeMap<String, usize> {
    let mut governors = BTreeMap::new();
    for entry in fs::read_dir(cpu).into_iter().flatten().flatten() {
        let governor = text(&entry.path().join("cpufreq/scaling_governor"));
        if !governor.trim().is_empty() {
            *governors.entry(governor.trim().to_owned()).or_insert(0) += 1;
        }
    }
    governors
}

/// The interrupts whose name speaks of a device, and those that its hardware has, whatever they are called
/// (`mlx5_comp0@pci:0000:3b:00.0`; a virtio device's are of the PCI device above it, `virtio0-input.0`). Named by the device, they are
/// counted with its others.
fn interrupts(root: &Path, devices: &[&str]) -> Vec<Interrupt> {
    let of_hardware = devices.iter().flat_map(|device| {
        let hardware = root.join("sys/class/net").join(device).join("device");
        let folders = [hardware.join("msi_irqs"), hardware.join("../msi_irqs")];
        // `..` of a link is that of what it leads to.
        let entries = folders.into_iter().find_map(|folder| fs::read_dir(folder).ok());
        let numbers =
            entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.map(|number: u32| (number, *device)).collect::<Vec<_>>()
    });
    let of_hardware: BTreeMap<u32, &str> = of_hardware.collect();
    let listed = text(&root.join("proc/interrupts"));
    let interrupt = |line: &str| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let name = rest.split_whitespace().last()?.to_owned();
        let number: u32 = number.parse().ok()?;
        let folder = root.join("proc/irq").join(format!("{number}"));
        let effective = text(&folder.join("effective_affinity_list"));
        let processors = match effective.trim() {
            "" => text(&folder.join("smp_affinity_list")),
            _ => effective,
        };
        let name = match of_hardware.get(&number) {
            _ if devices.iter().any(|device| name.contains(device)) => name,
            Some(device) if !NO_RECEIVE_QUEUES.iter().any(|word| name.contains(word)) => format!("{device}-{name}"),
            Some(_) => return None,
            None => return None,
        };
        Some(Interrupt { number, name, processors: processors.trim().to_owned() })
    };
    listed.lines().filter_map(interrupt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with files under it, removed again on drop.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let folder = Self(std::env::temp_dir().join(format!("netpath-doctor-{}-{name}", std::process::id())));
            for (path, text) in files {
                let path = folder.0.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            folder
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let folder = Folder::with(
            "whole",
            &[
                ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
                ("proc/sys/net/core/bpf_jit_enable", "0\n"),
                ("proc/sys/net/core/bpf_jit_harden", "2\n"),
                ("proc/sys/kernel/unprivileged_bpf_disabled", "0\n"),
                ("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
                ("proc/sys/net/ipv4/conf/all/rp_filter", "1\n"),
                ("proc/sys/net/ipv4/conf/eth1.5/rp_filter", "2\n"),
                ("proc/sys/net/ipv4/conf/np4789/forwarding", "0\n"),
                ("sys/devices/system/cpu/online", "0-2,7\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
                ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
                ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n"),
                ("dev/vhost-net", ""),
                (
                    "proc/interrupts",
                    "      CPU0  CPU1\n  24:  9  0  PCI-MSI 1-edge  eth1-TxRx-0\n  25: 1 0 PCI-MSI 2-edge ahci\n  26: 5 0 PCI-MSI 3-edge mlx5_async0@pci:0000:3b:00.0\n  27: 5 0 PCI-MSI 4-edge mlx5_comp0@pci:0000:3b:00.0\n  28: 5 0 PCI-MSI 5-edge virtio0-input.0\n NMI: 0 0 Non-maskable\n",
                ),
                ("sys/class/net/eth2/device/msi_irqs/26", "msix\n"),
                ("sys/class/net/eth2/device/msi_irqs/27", "msix\n"),
                ("sys/class/net/eth3/device/vendor", "0x1af4\n"),
                ("sys/class/net/eth3/msi_irqs/28", "msix\n"),
                ("proc/irq/24/smp_affinity_list", "0-2\n"),
                ("proc/irq/24/effective_affinity_list", "1\n"),
            ],
        );
        let system = read(&folder.0, &["eth1", "eth1.5", "eth2", "eth3", "np4789"]);
        assert_eq!((system.kernel, system.processors), ((6, 1), 4));
        assert_eq!((system.jit, system.jit_harden, system.unprivileged_bpf_disabled), (Some(0), Some(2), Some(0)));
        assert_eq!(system.bridge_calls, ["bridge-nf-call-iptables"]);
        assert_eq!(system.rp_filter, [("all".into(), 1), ("eth1.5".into(), 2)].into());
        assert_eq!(system.forwarding, [("np4789".into(), 0)].into());
        assert_eq!(system.governors, [("performance".into(), 1), ("powersave".into(), 2)].into());
        assert!(system.has_vhost_net);
        let interrupts =
            [(24, "eth1-TxRx-0", "1"), (27, "eth2-mlx5_comp0@pci:0000:3b:00.0", ""), (28, "eth3-virtio0-input.0", "")];
        let found = |(number, name, processors): (u32, &str, &str)| Interrupt {
            number,
            name: name.into(),
            processors: processors.into(),
        };
        assert_eq!(system.interrupts, interrupts.map(found));
    }

    #[test]
    fn a_host_without_such_files_says_nothing() {
        let folder = Folder::with("empty", &[("proc/version", "")]);
        let system = read(&folder.0, &["eth1"]);
        assert_eq!(System { memlock: None, ..system }, System::default());
    }
}
