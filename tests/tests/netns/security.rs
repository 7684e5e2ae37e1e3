//! Who may do and read what: docs/security.md.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use netpath_tests::{
    agent::{Agent, until},
    guest::{RawGuest, raw::marker},
    monitor::Monitor,
    packet::{Endpoint, dissect, guest},
    runner::{Netpath, Output},
    topology::{Mount, Offloads, Tap, TwoHypervisors, definitions, internet::shared},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_thread_gid, set_thread_groups, set_thread_uid,
};
use serde_json::Value;

use crate::{
    agent::{reaches, with_late},
    scene::{A, C, STRANGER, delivers},
};

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_PERFMON` and `CAP_BPF`: what the unit in dist/ leaves the agent.
const CAPABILITIES: [libc::c_ulong; 4] = [12, 13, 38, 39];
/// `CAP_NET_ADMIN` and `CAP_BPF`: what the other unit leaves the metrics.
const OF_METRICS: [libc::c_ulong; 2] = [12, 39];
/// `CAP_CHECKPOINT_RESTORE`, the last one that Linux 6.18 has.
const LAST_CAPABILITY: libc::c_ulong = 40;
/// A user without any rights.
const NOBODY: u32 = 65534;

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

/// Raw guests and gateways, of which nothing is applied yet, and a document with a NIC whose device is not there.
fn with_a_late_one() -> (TwoHypervisors, PathBuf) {
    let topology = TwoHypervisors::builder().with_internet().build().unwrap();
    let file = topology.write("zone.yaml", &definitions::with_gateways(with_late(&topology)));
    (topology, file)
}

/// Has an agent with these rights serve a guest that comes and announce an address.
#[track_caller]
fn agent_serves(topology: &TwoHypervisors, netpath: &Netpath, file: &Path, rights: fn(Command) -> Command) {
    let wire = topology.internet().wire(0);
    let mut agent = Agent::spawn(netpath, rights(Agent::command(netpath, file, &[])));
    agent.comes_into_force();
    let announced = |frame: &[u8]| dissect(frame).and_then(|d| d.arp()).is_some_and(|arp| arp.2 == shared("blue"));
    wire.expect("an announcement", announced);
    let tap = topology.hosts[0].ns.run(|| Tap::new("vnet14", Offloads::None)).unwrap();
    let late = RawGuest::on_tap("late", tap);
    until("a guest that came is served", || reaches(&late, topology.raw("blue", 11), Endpoint::numbered(14), A));
    drop(late);
    agent.until("its NIC waits again", |agent| agent["last_apply"]["waiting"] == 1);
    assert!(agent.end().success());
}

/// Has a monitor and a capture with these rights see a packet that is refused.
#[track_caller]
fn is_watched(topology: &TwoHypervisors, netpath: &Netpath, rights: fn(Command) -> Command) {
    for watches in [&["monitor", "--drops", "--count", "1"][..], &["capture", "dropped", "--count", "1"]] {
        let mut command = netpath.command(watches);
        command.args(["-o", "json"]);
        let mut monitor = Monitor::spawn(netpath, rights(command));
        topology.raw("blue", 11).send(guest(A).from(STRANGER.ip).to(C).udp(1, 2).build());
        let seen = monitor.json();
        assert_eq!(seen["reason"], "spoofed_ipv4", "{watches:?}: {seen}");
        assert!(monitor.ends().success());
    }
}

/// What a doctor says that is run like this: ids, objects and how bad that is.
fn diagnosis(mut command: Command) -> BTreeSet<[String; 3]> {
    let output: Output = command.output().unwrap().into();
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let all = |finding| ["id", "object", "severity"].map(|field| text(finding, field));
    report["findings"].as_array().unwrap().iter().map(all).collect()
}

#[test]
fn an_agent_needs_no_more_than_the_capabilities_of_its_unit() {
    let (topology, file) = with_a_late_one();
    agent_serves(&topology, &topology.hosts[0].netpath, &file, |command| least(command, &CAPABILITIES));
}

#[test]
fn whoever_watches_or_looks_for_faults_needs_no_more_than_the_capabilities_of_the_unit() {
    let (topology, file) = with_a_late_one();
    let netpath = &topology.hosts[0].netpath;
    netpath.apply(&file);
    is_watched(&topology, netpath, |command| least(command, &CAPABILITIES));
    let name = file.display().to_string();
    for args in [&["doctor", "-o", "json"][..], &["doctor", "-o", "json", "-f", &name, "--host", "hv1"]] {
        let found = diagnosis(least(netpath.command(args), &CAPABILITIES));
        assert_eq!(found, diagnosis(netpath.command(args)));
    }
}

/// On a BPF file system of its own, with the capabilities that the unit has.
#[test]
fn a_user_who_is_not_root_may_have_a_root_of_his_own() {
    let (topology, file) = with_a_late_one();
    let folder = topology.scratch().path();
    let bpffs = Mount::new("bpf", folder.join("nobodys-bpffs"), "mode=0700").unwrap();
    let state = folder.join("nobodys-state");
    fs::create_dir(&state).unwrap();
    for own in [bpffs.path(), &state] {
        chown(own, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let host = &topology.hosts[0];
    let netpath = Netpath::new(&host.ns, bpffs.path().join("hv1"), state, "hv1").copied_to(folder);
    agent_serves(&topology, &netpath, &file, nobodys);
    succeeds(nobodys(netpath.command(["detach"])));
    succeeds(nobodys(netpath.command(netpath.apply_args(&file))));
    assert_eq!(fs::metadata(netpath.root()).unwrap().uid(), NOBODY);
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C).udp(1, 2).payload(marker()));
    for looks in [&["status"][..], &["show", "ports"], &["map", "dump", "PORTS"], &["history"], &["metrics"]] {
        succeeds(nobodys(netpath.command(looks)));
    }
    is_watched(&topology, &netpath, nobodys);
    let doctor = ["doctor", "-o", "json"];
    assert_eq!(diagnosis(nobodys(netpath.command(doctor))), diagnosis(netpath.command(doctor)));
    succeeds(nobodys(netpath.command(["detach", "--purge"])));
    assert!(!netpath.root().exists());
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

/// The command as a user who is not root, with the capabilities of the unit and no others, which a new program keeps (`CAP_AMBIENT`).
fn nobodys(command: Command) -> Command {
    let mut command = least(command, &CAPABILITIES);
    // SAFETY: system calls that touch no memory of the forked child, which has one thread.
    unsafe {
        command.pre_exec(|| {
            set_keep_capabilities(true)?;
            set_thread_groups(&[])?;
            set_thread_gid(Gid::from_raw(NOBODY))?;
            set_thread_uid(Uid::from_raw(NOBODY))?;
            let each = CAPABILITIES.map(|capability| CapabilitySet::from_bits_retain(1 << capability));
            let all = each.iter().copied().collect();
            set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable: all })?;
            each.into_iter().try_for_each(|capability| Ok(configure_capability_in_ambient_set(capability, true)?))
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
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            // SAFETY: the system call touches no memory.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            if done == 0 { what(folder) } else { Err(io::Error::last_os_error()) }
        });
        there.join().unwrap()
    })
}
