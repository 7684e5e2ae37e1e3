//! Revisions, rollback, and what is taken back because nobody confirmed it: traffic follows.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use netpath::history::{Awaited, Cause, Draft, Keep, Outcome};
use netpath_tests::{
    guest::raw::{contains, marker},
    packet::{dissect, guest},
    process::has_ended,
    runner::Netpath,
    topology::{Link, TwoHypervisors},
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, kill_process_group},
};
use serde_json::Value;

use crate::scene::{A, B};

/// An emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// The two documents of these tests: blue on VNI 5001, and on 6001.
struct Scene {
    topology: TwoHypervisors,
    first: PathBuf,
    second: PathBuf,
}

impl Scene {
    /// Nothing is applied.
    fn new() -> Self {
        let topology = TwoHypervisors::builder().build().unwrap();
        let mut definitions = topology.vxlan_definitions();
        let first = topology.write("first.yaml", &definitions);
        definitions["networks"][0]["segment"] = 6001.into();
        let second = topology.write("second.yaml", &definitions);
        Self { topology, first, second }
    }

    /// The first is applied.
    fn applied() -> Self {
        let scene = Self::new();
        scene.netpath().apply(&scene.first);
        scene
    }

    fn netpath(&self) -> &Netpath {
        &self.topology.hosts[0].netpath
    }

    /// The VNI that a packet of blue's leaves with.
    fn vni(&self) -> u32 {
        let (wire, payload) = (self.topology.wire(0), marker());
        self.topology.raw("blue", 11).send(guest(A).to(B).payload(&payload).build());
        let outer = wire.expect("the frame", |frame| contains(frame, &payload));
        dissect(&outer).unwrap().vxlan().unwrap().0
    }

    /// Applies the second in a process group of its own, to be confirmed within that time.
    fn start_second(&self, within: &str) -> Child {
        let args = self.netpath().apply_args(&self.second);
        let mut command = self.netpath().command(args.iter().map(String::as_str).chain(["--confirm-within", within]));
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn apply_second(&self, options: &[&str]) -> netpath_tests::runner::Output {
        let args = self.netpath().apply_args(&self.second);
        self.netpath().run(args.iter().map(String::as_str).chain(options.iter().copied()))
    }

    fn awaited(&self) -> Option<Awaited> {
        self.netpath().history().awaited().unwrap()
    }
}

/// (number, outcome, of which it is a rollback) of every revision.
fn revisions(netpath: &Netpath) -> Vec<(u64, String, Option<u64>)> {
    let rows = netpath.json(["history"]);
    let row = |row: &Value| {
        (row["number"].as_u64().unwrap(), row["outcome"].as_str().unwrap().to_owned(), row["rollback_of"].as_u64())
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

fn applied(number: u64, rollback_of: Option<u64>) -> (u64, String, Option<u64>) {
    (number, "applied".to_owned(), rollback_of)
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_rollback_brings_the_previous_document_back_and_traffic_follows() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    netpath.apply(&scene.second);
    netpath.apply(&scene.second);
    assert_eq!(revisions(netpath), [applied(1, None), applied(2, None)]);
    assert_eq!(scene.vni(), 6001);
    let said = netpath.succeed(["rollback"]).stdout;
    let plan = said.find("~ network blue-web").unwrap_or_else(|| panic!("no plan in {said}"));
    assert!(plan < said.find("kept as revision 3, a rollback of 1").unwrap(), "{said}");
    assert_eq!(scene.vni(), 5001);
    assert!(netpath.is_converged(&scene.first));
    let made = netpath.json(["rollback", "2"]);
    assert_eq!((&made["revision"], &made["rollback_of"], &made["changes"]), (&4.into(), &2.into(), &true.into()));
    assert_eq!(scene.vni(), 6001);
    let all = [applied(1, None), applied(2, None), applied(3, Some(1)), applied(4, Some(2))];
    assert_eq!(revisions(netpath), all);
}

#[test]
fn documents_are_shown_as_they_were_and_compared() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    netpath.apply(&scene.second);
    let whole = fs::read_to_string(&scene.first).unwrap();
    assert_eq!(netpath.succeed(["history", "show", "1"]).stdout, whole);
    assert_eq!(netpath.json(["history", "show", "1"])["document"], whole.as_str());
    let diff = netpath.succeed(["history", "diff", "1"]).stdout;
    let changed = |sign, vni: &str| diff.lines().any(|line| line.starts_with(sign) && line.contains(vni));
    assert!(diff.starts_with("--- revision 1 (") && diff.contains("\n+++ revision 2 ("), "{diff}");
    assert!(changed('-', "\"segment\":5001") && changed('+', "\"segment\":6001"), "{diff}");
    let none = netpath.json(["history", "diff", "2", "2"]);
    assert_eq!((&none["changes"], &none["diff"]), (&false.into(), &"".into()));
    let missing = netpath.run(["history", "show", "9"]);
    assert!(missing.code == 1 && missing.stderr.contains("no revision 9"), "{}", missing.stderr);
}

#[test]
fn what_nobody_confirms_is_taken_back_by_itself() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    let said = scene.apply_second(&["--confirm-within", "2s"]);
    assert!(said.code == 0 && said.stdout.contains("unless `netpath confirm` is run before"), "{said:?}");
    wait_until("it is taken back", || scene.awaited().is_none());
    assert_eq!(scene.vni(), 5001);
    assert!(netpath.is_converged(&scene.first));
    assert_eq!(revisions(netpath), [applied(1, None), (2, "unconfirmed".into(), None), applied(3, Some(1))]);
    let last = &netpath.json(["history"])[2];
    assert_eq!((&last["cause"], &last["unconfirmed"]), (&"unconfirmed".into(), &2.into()));
    let late = netpath.run(["confirm"]);
    assert!(late.code == 1 && late.stderr.contains("netpath history"), "{late:?}");
}

#[test]
fn what_cannot_be_restored_is_tried_again_until_it_can() {
    let scene = Scene::new();
    let (netpath, host) = (scene.netpath(), &scene.topology.hosts[0].ns);
    let set_mtu = |mtu| host.run(|| Link::named("eth1").mtu(mtu)).unwrap();
    let mut definitions = scene.topology.vxlan_definitions();
    definitions["networks"][0]["mtu"] = 1700.into();
    let large = scene.topology.write("large.yaml", &definitions);
    set_mtu(2000);
    netpath.apply(&large);
    set_mtu(1550);
    assert_eq!(scene.apply_second(&["--confirm-within", "1s"]).code, 0);
    wait_until("it has failed", || scene.awaited().is_some_and(|awaited| awaited.failure.is_some()));
    let status = netpath.succeed(["status"]).stdout;
    assert!(status.contains("revision 1 could not be restored, which is tried again: "), "{status}");
    assert!(scene.awaited().unwrap().is_watched);
    set_mtu(2000);
    wait_until("it is restored", || scene.awaited().is_none());
    assert!(netpath.is_converged(&large));
    assert_eq!(revisions(netpath), [applied(1, None), (2, "unconfirmed".into(), None), applied(3, Some(1))]);
}

#[test]
fn what_is_confirmed_stays_and_nobody_waits_any_more() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    let output = scene.apply_second(&["--confirm-within", "1h", "-o", "json"]);
    let made: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let awaited = scene.awaited().unwrap();
    assert!(awaited.is_watched && awaited.revision == 2);
    let confirmation = &netpath.json(["status"])["confirmation"];
    assert_eq!(confirmation["until"], made["confirm_until"]);
    assert_eq!((&confirmation["revision"], &confirmation["restores"]), (&2.into(), &1.into()));
    let status = netpath.succeed(["status"]).stdout;
    assert!(status.contains("confirm   revision 2 until 2"), "{status}");
    assert_eq!(netpath.json(["confirm"])["revision"], 2);
    wait_until("the waiting process ends", || has_ended(awaited.pid));
    assert_eq!(scene.vni(), 6001);
    assert!(netpath.json(["status"])["confirmation"].is_null());
    assert_eq!(revisions(netpath), [applied(1, None), applied(2, None)]);
    netpath.apply(&scene.first);
}

#[test]
fn while_one_awaits_confirmation_another_is_refused_and_a_rollback_takes_it_back_at_once() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    assert_eq!(scene.apply_second(&["--confirm-within", "1h"]).code, 0);
    for args in [netpath.apply_args(&scene.first), vec!["rollback".into(), "1".into()]] {
        let refused = netpath.run(&args);
        let words = ["nothing was touched", "revision 2", "netpath confirm", "netpath rollback"];
        assert!(refused.code == 1 && words.iter().all(|word| refused.stderr.contains(word)), "{refused:?}");
    }
    assert_eq!(scene.vni(), 6001);
    let waiting = scene.awaited().unwrap().pid;
    let said = netpath.succeed(["rollback"]).stdout;
    assert!(said.contains("revision 2 is not confirmed; back to revision 1"), "{said}");
    assert_eq!(scene.vni(), 5001);
    wait_until("the waiting process ends", || has_ended(waiting));
    assert_eq!(revisions(netpath), [applied(1, None), (2, "unconfirmed".into(), None), applied(3, Some(1))]);
    let nothing = netpath.run(["rollback"]);
    assert!(nothing.code == 1 && nothing.stderr.contains("nothing to roll back to"), "{nothing:?}");
}

#[test]
fn an_apply_that_is_killed_with_its_terminal_is_taken_back() {
    for kill_at_once in [true, false] {
        let scene = Scene::applied();
        let mut apply = scene.start_second("2s");
        // At once: in the middle of its edits. Else: when it is done, and its terminal goes.
        wait_until("somebody waits", || scene.awaited().is_some_and(|awaited| kill_at_once || awaited.until.is_some()));
        let group = Pid::from_child(&apply);
        kill_process_group(group, Signal::KILL).unwrap();
        apply.wait().unwrap();
        wait_until("it is taken back", || scene.awaited().is_none());
        assert_eq!(scene.vni(), 5001);
        assert!(scene.netpath().is_converged(&scene.first));
        let in_force = scene.netpath().history().in_force().unwrap().unwrap();
        assert_eq!(in_force.document, fs::read_to_string(&scene.first).unwrap());
    }
}

#[test]
fn where_nothing_was_before_everything_goes_again() {
    let scene = Scene::new();
    assert_eq!(scene.apply_second(&["--confirm-within", "2s"]).code, 0);
    wait_until("it is taken back", || scene.awaited().is_none());
    assert!(!scene.netpath().root().exists(), "pins are left");
    assert_eq!(revisions(scene.netpath()), [(1, "unconfirmed".into(), None)]);
}

#[test]
fn a_detach_ends_the_waiting() {
    let scene = Scene::applied();
    assert_eq!(scene.apply_second(&["--confirm-within", "1h"]).code, 0);
    let waiting = scene.awaited().unwrap().pid;
    scene.netpath().succeed(["detach", "--purge"]);
    wait_until("the waiting process ends", || has_ended(waiting));
    assert!(!scene.netpath().root().exists(), "something was attached again");
}

#[test]
fn a_waiting_process_that_is_killed_blocks_nobody() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    assert_eq!(scene.apply_second(&["--confirm-within", "1h"]).code, 0);
    let pid = Pid::from_raw(scene.awaited().unwrap().pid as i32).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    wait_until("it is gone", || scene.awaited().is_some_and(|awaited| !awaited.is_watched));
    let status = netpath.succeed(["status"]).stdout;
    assert!(status.contains("nobody waits to restore revision 1"), "{status}");
    let said = netpath.apply(&scene.first).stderr;
    assert!(said.contains("revision 2 was never confirmed"), "{said}");
    assert!(scene.awaited().is_none());
}

/// A file system with room for a few files, and none left.
struct FullDisk<'a>(&'a Path);

impl<'a> FullDisk<'a> {
    fn at(path: &'a Path) -> Self {
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
        let disk = Self(path);
        disk.fill();
        disk
    }

    fn fill(&self) {
        let full = fs::write(self.0.join("ballast"), [1; 1 << 17]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_keeps_nothing_from_coming_into_force_unless_it_must() {
    let scene = Scene::new();
    let netpath = scene.netpath();
    let disk = FullDisk::at(netpath.state_dir());
    for options in [&["--require-history"][..], &["--confirm-within", "1h"]] {
        let refused = scene.apply_second(options);
        let words = ["nothing was touched", "No space left", "--state-dir"];
        assert!(refused.code == 1 && words.iter().all(|word| refused.stderr.contains(word)), "{refused:?}");
        assert!(!netpath.root().exists());
    }
    let said = netpath.apply(&scene.first).stderr;
    assert!(said.contains("not kept as a revision") && said.contains("No space left"), "{said}");
    assert!(netpath.is_converged(&scene.first));
    assert_eq!((scene.vni(), revisions(netpath).len()), (5001, 0));
    disk.make_room();
    netpath.apply(&scene.first);
    disk.fill();
    netpath.apply(&scene.second);
    assert_eq!((scene.vni(), revisions(netpath)), (6001, vec![applied(1, None)]));
    // The newest that was kept is the one before, and can be brought back without room for a revision of its own.
    netpath.succeed(["rollback"]);
    assert_eq!((scene.vni(), revisions(netpath)), (5001, vec![applied(1, None)]));
}

#[test]
fn a_revision_that_is_no_definitions_is_refused_by_line_and_column() {
    let scene = Scene::applied();
    let netpath = scene.netpath();
    let history = netpath.history();
    let draft = Draft::new("zone: a\ngatway: x\n", netpath.host(), "old.yaml", Cause::Apply);
    history.record(&draft, Keep::Must, |_| Ok(())).unwrap();
    let refused = netpath.run(["rollback", "2"]);
    assert!(refused.code == 1 && refused.stderr.contains("revision 2:2:1: `gatway`: unknown field"), "{refused:?}");
    assert_eq!(history.list().unwrap().last().map(|entry| entry.outcome), Some(Outcome::Applied));
    assert!(netpath.is_converged(&scene.first));
}
