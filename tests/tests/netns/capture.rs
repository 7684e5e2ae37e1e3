//! What `netpath capture` keeps of frames on their way.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use netpath_tests::{
    agent::until,
    guest::PATIENCE,
    monitor::watcher,
    packet::guest,
    runner::Netpath,
    topology::internet::{INTERNET, PUBLIC_UPLINK},
};

use crate::{
    gateway::online,
    scene::{A, C, STRANGER, delivers, raw_guests},
};

/// A capture under way, told to the data path.
fn begin(netpath: &Netpath, args: &[&str]) -> Child {
    let mut child = netpath.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while watcher(netpath) != Some(child.id().into()) {
        assert!(child.try_wait().unwrap().is_none(), "the capture has ended");
        assert!(Instant::now() < deadline, "the capture does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// A process that ends with this at the latest.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A block of a file.
#[derive(Debug)]
struct Block {
    kind: u32,
    body: Vec<u8>,
}

/// A frame of a file.
#[derive(Debug)]
struct Captured {
    device: String,
    bytes: Vec<u8>,
    comment: String,
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

/// The blocks of a pcapng file, whose lengths say the same at both ends.
fn blocks(mut file: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let (kind, len) = (word(file, 0), word(file, 4) as usize);
        assert_eq!((len % 4, word(file, len - 4) as usize), (0, len));
        blocks.push(Block { kind, body: file[8..len - 4].to_vec() });
        file = &file[len..];
    }
    blocks
}

/// The options of a block that begin at an offset.
fn options(body: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let (mut options, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (code, len) = (u16::from_le_bytes([rest[0], rest[1]]), usize::from(u16::from_le_bytes([rest[2], rest[3]])));
        options.push((code, rest[4..4 + len].to_vec()));
        rest = &rest[4 + len.next_multiple_of(4)..];
    }
    assert_eq!(options.pop(), Some((0, vec![])), "the last option says that it is");
    options
}

fn text(options: &[(u16, Vec<u8>)], code: u16) -> String {
    let found = options.iter().find(|(found, _)| *found == code).unwrap_or_else(|| panic!("no option {code}"));
    String::from_utf8(found.1.clone()).unwrap()
}

/// The frames of a pcapng file.
fn frames(file: &[u8]) -> Vec<Captured> {
    let blocks = blocks(file);
    assert_eq!((blocks[0].kind, word(&blocks[0].body, 0)), (0x0a0d_0d0a, 0x1a2b_3c4d));
    let interfaces: Vec<_> = blocks.iter().filter(|block| block.kind == 1).collect();
    let frames = blocks.iter().filter(|block| block.kind == 6).map(|block| {
        let (device, len) = (word(&block.body, 0) as usize, word(&block.body, 12) as usize);
        let options = options(&block.body[20 + len.next_multiple_of(4)..]);
        Captured {
            device: text(&self::options(&interfaces[device].body[8..]), 2),
            bytes: block.body[20..20 + len].to_vec(),
            comment: text(&options, 1),
        }
    });
    frames.collect()
}

#[test]
fn a_capture_is_pcapng_with_verdicts_and_reasons_as_comments() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.scratch().write("capture.pcapng", "").unwrap();
    let name = file.display().to_string();
    let mut capture = begin(
        netpath,
        &["capture", "--network", "blue-web", "udp", "and", "port", "7777", "-w", &name, "--count", "4"],
    );
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    let good = guest(A).to(C).udp(7777, 2).build();
    let bad = guest(A).from(STRANGER.ip).to(C).udp(7777, 3).build();
    a.send(guest(A).to(C).udp(1, 2).build());
    a.send(&good);
    a.send(&bad);
    assert!(capture.wait().unwrap().success());
    delivers(a, c, &guest(A).to(C));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "others may read it");
    let frames = frames(&fs::read(&file).unwrap());
    let seen: Vec<_> = frames.iter().map(|frame| (&*frame.device, &frame.bytes[..], &*frame.comment)).collect();
    let sentence = "The guest sent from an IPv4 address that its definition does not give it.";
    let dropped = format!("network blue-web, out by from_guest: dropped, spoofed_ipv4: {sentence}");
    assert_eq!(
        seen,
        [
            ("vnet11", &good[..], "network blue-web, in by from_guest: as it came in"),
            ("vnet13", &good[..], "network blue-web, out by from_guest: sent"),
            ("vnet11", &bad[..], "network blue-web, in by from_guest: as it came in"),
            ("vnet11", &bad[..], &dropped),
        ]
    );
}

#[test]
fn a_capture_shows_a_packet_before_and_after_it_is_translated() {
    let topology = online("tc");
    let netpath = &topology.hosts[0].netpath;
    let args =
        ["capture", "--device", "vnet11", "icmp", "and", "dst", "host", "198.51.100.7", "--count", "2", "-w", "-"];
    let capture = begin(netpath, &args);
    topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
    let output = capture.wait_with_output().unwrap();
    assert!(output.status.success());
    let [came, went] = &frames(&output.stdout)[..] else { panic!("{:?}", frames(&output.stdout)) };
    assert_eq!((&*came.device, &came.bytes[26..30]), ("vnet11", &[10, 1, 1, 11][..]));
    assert_eq!(went.device, PUBLIC_UPLINK);
    assert!(went.bytes.windows(4).any(|bytes| bytes == [203, 0, 113, 10]), "{went:?}");
    assert_eq!(went.comment, "network blue-web, out by gateway: sent");
    // What was captured can be traced.
    let file = topology.scratch().write("ping.pcapng", "").unwrap();
    fs::write(&file, &output.stdout).unwrap();
    let traced = netpath.json(["trace", "--from", "vnet11", "--pcap", &file.display().to_string(), "--packet", "1"]);
    assert_eq!((&traced["verdict"], &traced["out"]), (&"forwarded".into(), &PUBLIC_UPLINK.into()));
}

#[test]
fn a_capture_is_not_written_where_a_symbolic_link_leads() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let (target, link) = (topology.scratch().path().join("target"), topology.scratch().path().join("link"));
    fs::write(&target, "of somebody else").unwrap();
    symlink(&target, &link).unwrap();
    let refused = netpath.run(["capture", "-w", &link.display().to_string()]);
    assert!(refused.code == 1 && refused.stderr.contains("symbolic link"), "{refused:?}");
    assert_eq!(fs::read_to_string(target).unwrap(), "of somebody else");
}

#[test]
fn a_wrong_filter_is_explained_before_anything_is_turned_on() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let output = netpath.run(["capture", "greater", "5"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("`greater` is no condition of a filter"), "{}", output.stderr);
    assert_eq!(watcher(netpath), None);
}

#[test]
fn a_capture_ends_in_time_though_frames_come_faster_than_it_prints_them() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let (a, frame) = (topology.raw("blue", 11), guest(A).to(C).udp(1, 2).build());
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
                a.send(&frame);
            }
        });
        let mut command = netpath.command(["capture", "-o", "json", "--rate", "1000000", "--for", "1s"]);
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        stop.store(true, Ordering::Relaxed);
    });
    assert!(began.elapsed() < PATIENCE, "it went on for as long as frames came");
}

#[test]
fn a_capture_that_waits_for_its_reader_keeps_nobody_from_watching() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let pipe = topology.scratch().path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut command = netpath.command(["capture", "-w", &pipe.display().to_string()]);
    let mut capture = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let waits = || fs::read_to_string(format!("/proc/{}/wchan", capture.0.id())).is_ok_and(|at| at.contains("partner"));
    until("it waits for a reader", waits);
    netpath.succeed(["monitor", "--for", "10ms"]);
    // Not by INT, which is ignored by what a shell has begun in the background, tests among it.
    rustix::process::kill_process(rustix::process::Pid::from_child(&capture.0), rustix::process::Signal::TERM).unwrap();
    until("it has ended", || capture.0.try_wait().unwrap().is_some());
}

#[test]
fn a_capture_as_yaml_is_a_list_that_grows() {
    let topology = raw_guests();
    let capture = begin(&topology.hosts[0].netpath, &["capture", "-o", "yaml", "--count", "2"]);
    topology.raw("blue", 11).send(guest(A).to(C).udp(1, 2).build());
    let output = capture.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| line.starts_with("- {\"time\":")), "{text}");
}
