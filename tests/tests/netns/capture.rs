//! What `netpath capture` keeps of frames on their way.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use netpath_tests::{
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
    let frames = frames(&std::fs::read(&file).unwrap());
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
    std::fs::write(&file, &output.stdout).unwrap();
    let traced = netpath.json(["trace", "--from", "vnet11", "--pcap", &file.display().to_string(), "--packet", "1"]);
    assert_eq!((&traced["verdict"], &traced["out"]), (&"forwarded".into(), &PUBLIC_UPLINK.into()));
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
