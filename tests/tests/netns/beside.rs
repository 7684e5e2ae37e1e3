//! What is applied, confirmed and rolled back beside a running agent: it follows, until its definitions change.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use netpath::{
    datapath::{Root, Tables},
    history::{Outcome, Standing},
};
use netpath_tests::{
    agent::{Agent, until},
    runner::Netpath,
    topology::{Link, Offloads, Tap, TwoHypervisors, two_hypervisors::UPLINK},
};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use serde_json::{Value, json};

use crate::agent::{last_error, replace, with_late};

/// Three documents, each with a NIC whose device is not there yet: blue on VNI 5001, 6001 and 7001. The agent's file has
/// the first one.
struct Scene {
    topology: TwoHypervisors,
    file: PathBuf,
    documents: [PathBuf; 3],
}

impl Scene {
    fn new() -> Self {
        let topology = TwoHypervisors::builder().build().unwrap();
        let documents = [5001, 6001, 7001].map(|vni| {
            let mut definitions = with_late(&topology);
            definitions["networks"][0]["segment"] = vni.into();
            topology.write(&format!("{vni}.yaml"), &definitions)
        });
        let file = topology.scratch().path().join("followed.yaml");
        fs::copy(&documents[0], &file).unwrap();
        Self { topology, file, documents }
    }

    fn netpath(&self) -> &Netpath {
        &self.topology.hosts[0].netpath
    }

    /// Has the agent's file say what a document does.
    fn follow(&self, document: usize) {
        replace(&self.topology, &self.file, &fs::read_to_string(&self.documents[document]).unwrap());
    }

    fn apply_to_be_confirmed(&self, file: &Path, within: &str) {
        let args = self.netpath().apply_args(file);
        self.netpath().succeed(args.iter().map(String::as_str).chain(["--confirm-within", within]));
    }

    fn is_in_force(&self, document: usize) -> bool {
        self.netpath().is_converged(&self.documents[document])
    }

    /// What became of the newest revision.
    fn newest(&self) -> Option<(u64, Outcome)> {
        self.netpath().history().list().unwrap().last().map(|entry| (entry.number, entry.outcome))
    }

    /// Holds the root's lock: an apply has written its revision when it waits for it, and done nothing else.
    fn hold(&self) -> File {
        let root = File::open(self.netpath().root()).unwrap();
        flock(&root, FlockOperation::LockExclusive).unwrap();
        root
    }

    fn tables(&self) -> Tables {
        Tables::open(&Root::open(self.netpath().root()).unwrap()).unwrap()
    }

    /// Takes a row away, as an apply does of which only half is done.
    fn lose_a_row(&self) {
        let mut tables = self.tables();
        let (key, _) = tables.fdb.rows().unwrap()[0];
        tables.fdb.delete(&key).unwrap();
    }

    fn is_awaited(&self) -> bool {
        self.netpath().history().awaited().unwrap().is_some()
    }

    /// Has the host change: the NIC's device comes. The agent applies what it keeps in force.
    fn change(&self, agent: &mut Agent) -> Tap {
        let tap = self.topology.hosts[0].ns.run(|| Tap::new("vnet14", Offloads::None).unwrap());
        agent.until("the device is served", |agent| agent["last_apply"]["waiting"] == 0);
        tap
    }
}

/// Says what the agent keeps in force instead of its definitions, and what is wrong.
fn keeps(agent: &Value) -> (Option<u64>, &str) {
    (agent["keeps"].as_u64(), last_error(agent))
}

#[test]
fn an_unconfirmed_document_that_is_taken_back_is_not_brought_again_by_the_agent() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    // The command comes first, to the file that the agent follows.
    agent.stop_at_rest();
    scene.follow(1);
    scene.apply_to_be_confirmed(&scene.file, "2s");
    agent.signal(Signal::CONT);
    until("it is taken back", || !scene.is_awaited());
    agent.until("the agent keeps what is restored", |agent| keeps(agent) == (Some(3), ""));
    let _tap = scene.change(&mut agent);
    assert!(scene.is_in_force(0));
    agent.signal(Signal::HUP);
    until("the agent says that it drops it", || agent.log().contains("is revision 2, which was taken back"));
    assert!(scene.is_in_force(0));
    scene.follow(2);
    until("another one is followed", || scene.is_in_force(2));
    agent.until("it is the definitions", |agent| keeps(agent) == (None, ""));
}

#[test]
fn while_a_document_awaits_confirmation_the_agent_serves_it_and_applies_no_other() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    scene.apply_to_be_confirmed(&scene.documents[1], "1h");
    agent.until("the agent keeps it", |agent| keeps(agent) == (Some(2), ""));
    scene.follow(2);
    let status = agent.until("its own is refused", |agent| !last_error(agent).is_empty());
    assert!(last_error(&status).contains("revision 2 awaits confirmation"), "{status}");
    let _tap = scene.change(&mut agent);
    assert!(scene.is_in_force(1) && scene.is_awaited());
    let said = scene.netpath().succeed(["confirm"]).stderr;
    assert!(said.contains(&format!("agent (process {})", agent.pid())), "{said}");
    // The definitions have changed meanwhile, and are waited for no longer.
    agent.until("its own is in force", |agent| keeps(agent) == (None, ""));
    assert!(scene.is_in_force(2));
}

#[test]
fn definitions_that_change_while_a_document_awaits_confirmation_come_after_it_was_taken_back() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    scene.apply_to_be_confirmed(&scene.documents[1], "1h");
    agent.until("the agent keeps it", |agent| keeps(agent) == (Some(2), ""));
    scene.follow(2);
    agent.until("its own is refused", |agent| last_error(agent).contains("awaits confirmation"));
    scene.netpath().succeed(["rollback"]);
    agent.until("its own is in force", |agent| keeps(agent) == (None, ""));
    assert!(scene.is_in_force(2));
}

#[test]
fn definitions_that_were_refused_do_not_come_after_what_others_have_brought_since() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    let mut large: Value = serde_json::from_str(&fs::read_to_string(&scene.documents[1]).unwrap()).unwrap();
    large["networks"][0]["mtu"] = 1700.into();
    replace(&scene.topology, &scene.file, &large.to_string());
    agent.until("its own is refused", |agent| last_error(agent).contains("MTU"));
    scene.netpath().apply(&scene.documents[2]);
    agent.until("the agent keeps what was applied", |agent| agent["keeps"] == 2);
    scene.topology.hosts[0].ns.run(|| Link::named(UPLINK).mtu(2000)).unwrap();
    let drops = || agent.log().matches("was refused, and revision 2 came after it").count();
    until("the agent drops its own", || drops() > 0);
    // Read again, it is the same.
    agent.signal(Signal::HUP);
    until("the agent drops it again", || drops() > 1);
    assert!(scene.is_in_force(2));
}

#[test]
fn a_rollback_stays_while_the_agents_definitions_are_what_was_rolled_back() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    scene.follow(1);
    until("the second is in force", || scene.is_in_force(1));
    agent.until("and said so", |agent| keeps(agent) == (None, "") && !agent["last_apply"].is_null());
    let said = scene.netpath().succeed(["rollback"]).stderr;
    assert!(said.contains(&format!("agent (process {})", agent.pid())), "{said}");
    agent.until("the agent keeps it", |agent| keeps(agent) == (Some(3), ""));
    let tap = scene.change(&mut agent);
    assert!(scene.is_in_force(0));
    // The next agent reads the same file.
    assert!(agent.end().success());
    drop(tap);
    let mut next = Agent::start(scene.netpath(), &scene.file);
    next.until("the next agent keeps it", |agent| keeps(agent) == (Some(3), "") && !agent["last_apply"].is_null());
    assert!(scene.is_in_force(0));
    let status = scene.netpath().succeed(["status"]).stdout;
    assert!(status.contains("keeps     revision 3 in force until the definitions change"), "{status}");
    scene.netpath().apply(&scene.file);
    next.until("an apply brings it", |agent| keeps(agent) == (Some(4), ""));
    assert!(scene.is_in_force(1));
}

#[test]
fn what_nothing_was_before_is_taken_off_beside_an_agent_which_brings_nothing_back() {
    let scene = Scene::new();
    fs::write(&scene.file, "zone: [").unwrap();
    let mut agent = Agent::start(scene.netpath(), &scene.file);
    agent.until("it says what is wrong", |agent| !last_error(agent).is_empty());
    scene.apply_to_be_confirmed(&scene.documents[1], "1h");
    agent.until("the agent keeps it", |agent| agent["keeps"] == 1);
    scene.netpath().succeed(["rollback"]);
    agent.until("the agent keeps nothing", |agent| agent["keeps"].is_null());
    assert!(!scene.is_awaited());
    scene.follow(1);
    agent.until("it says that it drops it", |agent| last_error(agent).contains("is revision 1, which was taken back"));
    let refused = scene.netpath().run(["show", "networks"]);
    assert!(refused.code == 1 && refused.stderr.contains("nothing is applied"), "{refused:?}");
    // Its lock is left: there is no second agent.
    assert_eq!(scene.netpath().run(["agent", "-f", &scene.file.display().to_string()]).code, 1);
}

#[test]
fn an_agent_that_finds_a_broken_file_keeps_the_last_good_document_in_force() {
    let scene = Scene::new();
    scene.netpath().apply(&scene.file);
    // As after a reboot: the kernel has nothing, and the history everything.
    scene.netpath().succeed(["detach", "--purge"]);
    fs::write(&scene.file, "zone: [").unwrap();
    let mut agent = Agent::start(scene.netpath(), &scene.file);
    let status = agent.until("the last good one is in force", |agent| !agent["last_apply"].is_null());
    assert!(status["keeps"] == 1 && last_error(&status).contains("followed.yaml:2:1: "), "{status}");
    assert!(scene.is_in_force(0));
    let _tap = scene.change(&mut agent);
    assert!(scene.is_in_force(0));
    // So it is with one that the host refuses.
    agent.kill();
    scene.netpath().succeed(["detach", "--purge"]);
    let mut large: Value = serde_json::from_str(&fs::read_to_string(&scene.documents[1]).unwrap()).unwrap();
    large["networks"][0]["mtu"] = 1700.into();
    fs::write(&scene.file, large.to_string()).unwrap();
    let mut agent = Agent::start(scene.netpath(), &scene.file);
    let status = agent.until("the last good one is in force", |agent| !agent["last_apply"].is_null());
    assert!(status["keeps"] == 1 && last_error(&status).contains("MTU"), "{status}");
    assert!(scene.is_in_force(0));
    scene.topology.hosts[0].ns.run(|| Link::named("eth1").mtu(2000)).unwrap();
    agent.until("the new one is in force", |agent| keeps(agent) == (None, ""));
}

#[test]
fn a_history_that_cannot_be_read_keeps_nothing_from_coming_into_force() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    let folder = scene.netpath().history().folder().to_owned();
    let newest = folder.join("0000000001.applied");
    agent.stop_at_rest();
    fs::remove_file(&newest).unwrap();
    fs::create_dir(&newest).unwrap();
    agent.signal(Signal::CONT);
    let _tap = scene.change(&mut agent);
    assert!(scene.is_in_force(0));
    scene.follow(1);
    until("the second is in force", || scene.is_in_force(1));
    // Nor does a folder that is none.
    agent.stop_at_rest();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    agent.signal(Signal::CONT);
    scene.follow(2);
    until("the third is in force", || scene.is_in_force(2));
    agent.until("nothing is wrong", |agent| keeps(agent) == (None, ""));
    assert!(agent.log().contains("cannot be read"), "{}", agent.log());
}

#[test]
fn definitions_that_have_not_changed_leave_alone_what_others_brought_after_them() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    scene.apply_to_be_confirmed(&scene.documents[1], "1h");
    agent.until("the agent keeps it", |agent| keeps(agent) == (Some(2), ""));
    // The agent is started again while it is awaited, and the same file is renamed over itself.
    assert!(agent.end().success());
    let mut next = Agent::start(scene.netpath(), &scene.file);
    next.until("the next agent keeps it", |agent| keeps(agent) == (Some(2), "") && !agent["last_apply"].is_null());
    assert!(next.log().contains("has not changed since it was applied"), "{}", next.log());
    scene.netpath().succeed(["confirm"]);
    scene.follow(0);
    next.signal(Signal::HUP);
    let _tap = scene.change(&mut next);
    next.until("it is kept", |agent| keeps(agent) == (Some(2), ""));
    assert!(scene.is_in_force(1));
    scene.follow(2);
    until("a change is followed", || scene.is_in_force(2));
    next.until("it is the definitions", |agent| keeps(agent) == (None, ""));
    scene.follow(0);
    until("and one back to what it was", || scene.is_in_force(0));
}

#[test]
fn definitions_that_an_agent_found_in_force_have_not_changed_for_the_next_one() {
    let scene = Scene::new();
    scene.netpath().apply(&scene.file);
    let agent = Agent::in_force(scene.netpath(), &scene.file);
    assert!(agent.end().success());
    scene.netpath().apply(&scene.documents[1]);
    let mut next = Agent::in_force(scene.netpath(), &scene.file);
    next.until("the next agent keeps it", |agent| keeps(agent) == (Some(2), ""));
    assert!(scene.is_in_force(1));
}

#[test]
fn a_document_that_was_rolled_back_is_followed_when_it_comes_back_after_another() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    scene.follow(1);
    until("the second is in force", || scene.is_in_force(1));
    scene.netpath().succeed(["rollback"]);
    agent.until("the agent keeps it", |agent| keeps(agent) == (Some(3), ""));
    scene.follow(0);
    agent.until("it is the definitions", |agent| keeps(agent) == (None, ""));
    scene.follow(1);
    until("the second is in force again", || scene.is_in_force(1));
    agent.until("as the definitions", |agent| keeps(agent) == (None, ""));
}

#[test]
fn definitions_that_an_agent_was_killed_with_before_it_noted_them_are_followed_back_to_what_they_were() {
    let scene = Scene::new();
    Agent::in_force(scene.netpath(), &scene.file).kill();
    let noted = scene.netpath().history().folder().join("taken-by-agent");
    let before = fs::read(&noted).unwrap();
    scene.follow(1);
    Agent::in_force(scene.netpath(), &scene.file).kill();
    assert!(scene.is_in_force(1));
    // The note is the last thing that an apply of the agent does.
    assert_ne!(fs::read(&noted).unwrap(), before);
    fs::write(&noted, before).unwrap();
    scene.follow(0);
    let mut next = Agent::in_force(scene.netpath(), &scene.file);
    next.until("it is the definitions", |agent| keeps(agent) == (None, ""));
    assert!(scene.is_in_force(0));
}

#[test]
fn what_a_killed_apply_leaves_half_done_the_agent_brings_back_at_once() {
    let scene = Scene::new();
    let mut agent = Agent::in_force(scene.netpath(), &scene.file);
    for _ in 0..2 {
        let root = scene.hold();
        let args = scene.netpath().apply_args(&scene.documents[1]);
        let ended = scene.netpath().killed_when(args, || scene.newest() == Some((2, Outcome::Pending)));
        assert!(ended.is_none(), "{ended:?}");
        scene.lose_a_row();
        assert!(!scene.is_in_force(0));
        drop(root);
        until("what the agent keeps is in force again", || scene.is_in_force(0));
        assert_eq!(scene.newest(), Some((2, Outcome::Interrupted)));
    }
    agent.until("it says nothing against it", |agent| keeps(agent) == (None, ""));
    // One that is not killed stays.
    scene.netpath().apply(&scene.documents[1]);
    agent.until("the agent keeps it", |agent| keeps(agent) == (Some(2), ""));
    assert!(scene.is_in_force(1));
}

#[test]
fn what_an_apply_that_failed_leaves_undone_the_agent_brings_back_at_once() {
    let scene = Scene::new();
    let _agent = Agent::in_force(scene.netpath(), &scene.file);
    // Its tunnel device's name is another's.
    scene.topology.hosts[0].ns.run(|| Link::bridge("np8472")).unwrap();
    let mut definitions: Value = serde_json::from_str(&fs::read_to_string(&scene.documents[1]).unwrap()).unwrap();
    definitions["vxlan_port"] = 8472.into();
    let file = scene.topology.write("failing.yaml", &definitions);
    let root = scene.hold();
    let mut apply = scene.netpath().command(scene.netpath().apply_args(&file)).spawn().unwrap();
    until("it has begun", || scene.newest() == Some((2, Outcome::Pending)));
    scene.lose_a_row();
    drop(root);
    assert!(!apply.wait().unwrap().success());
    assert_eq!(scene.newest(), Some((2, Outcome::Failed)));
    until("what the agent keeps is in force again", || scene.is_in_force(0));
}

#[test]
fn an_apply_that_is_killed_between_its_rows_beside_an_agent_is_in_force_as_a_whole_or_not_at_all() {
    let scene = Scene::new();
    let _agent = Agent::in_force(scene.netpath(), &scene.file);
    let tables = scene.tables();
    let stands = || match scene.netpath().history().standing().unwrap() {
        Standing::Revision(standing) => scene.topology.scratch().write("standing.yaml", &standing.document).unwrap(),
        other => panic!("{other:?}"),
    };
    // Its rows take a while.
    let large = [(1, 6001), (2, 7001)].map(|(place, vni)| {
        let mut document: Value = serde_json::from_str(&fs::read_to_string(&scene.documents[place]).unwrap()).unwrap();
        let nics = document["networks"][0]["nics"].as_array_mut().unwrap();
        nics.extend((0..2000).map(|number| {
            let [_, _, high, low] = u32::to_be_bytes(number);
            json!({"instance": format!("far-{number}"), "mac": format!("02:00:00:00:{high:02x}:{low:02x}"), "host": "hv2"})
        }));
        (scene.topology.write(&format!("large-{vni}.yaml"), &document), vni)
    });
    let mut interrupted = 0;
    for round in 0..8 {
        let (document, vni) = &large[round % 2];
        // What is added comes first, and what goes last.
        let is_begun = || tables.segments.rows().unwrap().iter().any(|(key, _)| key.id == *vni);
        scene.netpath().killed_when(scene.netpath().apply_args(document), is_begun);
        until("what stands is in force as a whole", || scene.netpath().is_converged(&stands()));
        interrupted += u32::from(matches!(scene.newest(), Some((_, Outcome::Interrupted))));
    }
    assert_ne!(interrupted, 0, "no apply was killed before its end");
}
