//! What netpath will not do: one clear error each, and nothing changed.

use std::{fs, os::unix::process::CommandExt as _};

use netpath_tests::{
    guest::raw::marker,
    packet::guest,
    runner::{Netpath, Output},
    topology::{Link, TwoHypervisors},
};

use crate::scene::{A, C, delivers};

/// The error must name each of `words`, and the host must be as before: no pins, no programs, no tunnel device.
#[track_caller]
pub(crate) fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(output.stderr.matches("error:").count(), 1, "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is not in: {}", output.stderr);
    }
}

/// Whether nothing of netpath is under its root, and it has no tunnel device.
#[track_caller]
fn assert_untouched(topology: &TwoHypervisors, netpath: &Netpath) {
    assert!(!netpath.root().join("v1").exists(), "pins were left");
    let devices = topology.hosts[0].ns.run(|| fs::read_to_string("/proc/net/dev")).unwrap();
    assert!(!devices.contains("np4789:"), "{devices}");
}

#[test]
fn a_step_that_fails_takes_back_those_before_it() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let host = &topology.hosts[0];
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    // A device of another kind has the name that netpath's tunnel device is to have.
    host.ns.run(|| Link::bridge("np4789")).unwrap();
    let refused = host.netpath.run(host.netpath.apply_args(&file));
    assert_refused(&refused, &["np4789"]);
    assert!(!host.netpath.root().join("links").exists(), "no program may be left on a device");
    host.ns.run(|| Link::named("np4789").delete()).unwrap();
    assert_untouched(&topology, &host.netpath);
    host.netpath.apply(&file);
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C).udp(1, 2).payload(marker()));
}

/// Here the host has not as many files as there are maps; what it has not got elsewhere is memory for what `capacities` say.
#[test]
fn maps_that_cannot_all_be_made_leave_none_behind_and_the_next_document_may_size_them_otherwise() {
    const FILES: u64 = 32;
    let topology = TwoHypervisors::builder().build().unwrap();
    let netpath = &topology.hosts[0].netpath;
    let mut definitions = topology.vxlan_definitions();
    definitions["hosts"][0]["capacities"] = serde_json::json!({"flows": 4096, "bindings": 4096, "fdb": 4096});
    let sized = topology.write("sized.yaml", &definitions);
    let mut command = netpath.command(netpath.apply_args(&sized));
    // SAFETY: a system call that touches no memory of the forked child.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: FILES, rlim_max: FILES };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("open files"), "{said}");
    assert_untouched(&topology, netpath);
    topology.apply(&topology.vxlan_definitions());
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C).udp(1, 2).payload(marker()));
}

#[test]
fn files_that_are_no_definitions_are_refused() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let netpath = &topology.hosts[0].netpath;
    let whole = fs::read_to_string(topology.write("zone.yaml", &topology.vxlan_definitions())).unwrap();
    let scratch = topology.scratch();
    let truncated = scratch.write("truncated.yaml", &whole[..whole.len() * 2 / 3]).unwrap();
    let binary = scratch.write("binary.yaml", "\0\u{1}\0").unwrap();
    let large = scratch.write("large.yaml", &"# ten million bytes of nothing\n".repeat(350_000)).unwrap();
    let missing = scratch.path().join("missing.yaml");
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (file, word) in [
        (truncated.as_path(), "truncated.yaml"),
        (&binary, "binary.yaml"),
        (&large, "large.yaml"),
        (&missing, "missing.yaml"),
        (&empty, "no definitions"),
    ] {
        assert_refused(&netpath.run(netpath.apply_args(file)), &[word]);
        assert_untouched(&topology, netpath);
    }
}

#[test]
fn an_unknown_host_is_refused_with_those_there_are() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let output = netpath.run(["apply", "-f", &file.display().to_string(), "--host", "nobody"]);
    assert_refused(&output, &["nobody", "--host"]);
    assert_untouched(&topology, netpath);
}

#[test]
fn a_root_without_bpffs_is_refused_with_the_mount_that_is_missing() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let host = &topology.hosts[0];
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let root = topology.scratch().path().join("no-bpffs");
    let netpath = Netpath::new(&host.ns, root, topology.scratch().path().join("state"), host.netpath.host());
    assert_refused(&netpath.run(netpath.apply_args(&file)), &["mount -t bpf"]);
    assert_untouched(&topology, &netpath);
}

#[test]
fn without_privileges_nothing_is_done() {
    const NOBODY: u32 = 65534;
    let topology = TwoHypervisors::builder().build().unwrap();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let mut command = netpath.command(netpath.apply_args(&file));
    // SAFETY: two system calls, which touch no memory of the forked child.
    unsafe {
        command.pre_exec(|| {
            let to = |result: i32| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
            to(libc::setgid(NOBODY))?;
            to(libc::setuid(NOBODY))
        });
    }
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), said.matches("error:").count()), (Some(1), 1), "{said}");
        }
        // The binary lies where only root may enter: then nobody could have run it either.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
    }
    assert_untouched(&topology, netpath);
}
