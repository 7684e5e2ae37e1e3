//! Who may do and read what: docs/security.md.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use netpath_tests::{guest::raw::marker, packet::guest, topology::TwoHypervisors};

use crate::scene::{A, C, delivers};

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_PERFMON` and `CAP_BPF`: what the unit in dist/ leaves the agent.
const CAPABILITIES: [libc::c_ulong; 4] = [12, 13, 38, 39];
/// `CAP_NET_ADMIN` and `CAP_BPF`: what the other unit leaves the metrics.
const OF_METRICS: [libc::c_ulong; 2] = [12, 39];
/// `CAP_CHECKPOINT_RESTORE`, the last one that Linux 6.18 has.
const LAST_CAPABILITY: libc::c_ulong = 40;

#[test]
fn the_capabilities_of_the_unit_are_enough_to_apply_look_and_detach() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    for host in &topology.hosts {
        succeeds(least(host.netpath.command(host.netpath.apply_args(&file)), &CAPABILITIES));
    }
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C).udp(1, 2).payload(marker()));
    let netpath = &topology.hosts[0].netpath;
    for looks in [&["status"][..], &["show", "ports"], &["show", "counters"], &["map", "dump", "PORTS"]] {
        succeeds(least(netpath.command(looks), &CAPABILITIES));
    }
    succeeds(least(netpath.command(["metrics"]), &OF_METRICS));
    succeeds(least(netpath.command(["detach", "--purge"]), &CAPABILITIES));
    assert!(!netpath.root().join("links").exists());
}

#[test]
fn a_trace_without_the_capability_for_programs_says_so_instead_of_the_verifiers_log() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let netpath = &topology.hosts[0].netpath;
    netpath.apply(&topology.write("zone.yaml", &topology.vxlan_definitions()));
    let trace = ["trace", "--from", "vnet11", "udp 10.1.1.11:1 -> 10.1.1.13:2"];
    let output = least(netpath.command(trace), &OF_METRICS).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: no permission to load programs: this process lacks CAP_PERFMON; run"), "{said}");
    assert!(said.lines().count() <= 2, "{said}");
    succeeds(least(netpath.command(trace), &CAPABILITIES));
}

#[test]
fn nobody_but_root_reads_pins_or_what_was_applied() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let netpath = &topology.hosts[0].netpath;
    netpath.apply(&topology.write("zone.yaml", &topology.vxlan_definitions()));
    // The test's own folder for state is everybody's; a hypervisor's is made by netpath.
    let within_state = fs::read_dir(netpath.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = within_state.filter(|path| path.is_dir()).chain([netpath.root().to_path_buf()]).collect();
    assert!(folders.len() > 1, "{folders:?}");
    for folder in folders {
        for path in all_within(&folder) {
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
        let refused = as_nobody(&folder, |folder| fs::read_dir(folder).map(drop)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{}", folder.display());
    }
}

/// The command with these capabilities and no others, although its user is root: what a new program of root's has is
/// bounded.
fn least(mut command: Command, capabilities: &'static [libc::c_ulong]) -> Command {
    // SAFETY: system calls that touch no memory of the forked child.
    unsafe {
        command.pre_exec(|| {
            for capability in (0..=LAST_CAPABILITY).filter(|capability| !capabilities.contains(capability)) {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command
}

fn succeeds(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder and all that is in it.
fn all_within(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_path_buf()];
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_within(&entry.path()))
        } else {
            found.push(entry.path())
        }
    }
    found
}

/// Does it as a user without rights. The system call itself changes its own thread only, which ends here.
fn as_nobody(folder: &Path, what: impl FnOnce(&Path) -> io::Result<()> + Send) -> io::Result<()> {
    const NOBODY: libc::uid_t = 65534;
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            // SAFETY: the system call touches no memory.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            if done == 0 { what(folder) } else { Err(io::Error::last_os_error()) }
        });
        there.join().unwrap()
    })
}
