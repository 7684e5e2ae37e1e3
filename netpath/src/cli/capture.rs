//! `netpath capture`: frames as they come to a hook and as they leave it, with what became of them.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use netpath_common::{
    DropReason,
    maps::{CAPTURE_BYTES, Event, SegmentKey, Watch, event_action, event_hook, event_kind},
};
use rustix::process::geteuid;
use serde::Serialize;

use super::{
    Exit, Format, Global,
    applied::Applied,
    sink::{Session, Sink},
    watch::{self, Only, Until},
};
use crate::{
    error::Error,
    filter::{Filter, Outcome},
    headers::Headers,
    pcap::{Direction, Packet, Writer},
};

/// Capture frames before and after they are rewritten, each with its network, verdict and drop reason
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    only: Only,
    /// What is wanted: `tcp port 443 and host 10.1.1.11`, `arp`, `dropped and not icmp`; docs/operations.md has the words
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Write pcapng to this file; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Most bytes of a frame that are kept
    #[arg(long, value_name = "BYTES", default_value_t = CAPTURE_BYTES as u32,
          value_parser = clap::value_parser!(u32).range(14..=CAPTURE_BYTES as i64))]
    snaplen: u32,
    #[command(flatten)]
    until: Until,
}

/// Most events of each processor in a second, unless said otherwise.
const RATE: u32 = 50_000;

/// A frame, before or after.
#[derive(Debug, Serialize)]
struct Frame {
    /// RFC 3339, in UTC.
    time: String,
    /// `in`: as it came. `out`: as it left, or was refused.
    direction: &'static str,
    network: Option<String>,
    /// The device that it came in on; of one that is sent, the device that it leaves by.
    device: String,
    hook: &'static str,
    /// `null` for frames that come in: `sent`, `passed`, `consumed`, `dropped`.
    verdict: Option<&'static str>,
    reason: Option<&'static str>,
    explanation: Option<&'static str>,
    length: u32,
    packet: Headers,
}

/// Where frames go.
enum Frames {
    Text(Sink, Format),
    File(Writer<Sink>),
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let filter: Filter = args.filter.join(" ").parse().map_err(|why| Error::Packet { why })?;
    let applied = Applied::open(&global.root)?;
    let wanted = Watch {
        kinds: 1 << event_kind::ENTRY | 1 << event_kind::EXIT,
        rate: args.until.rate.unwrap_or(RATE),
        bytes: args.snaplen,
        ..args.only.watch(&applied)?
    };
    // A pipe waits for its reader here, where signals still end the command, and nobody else is kept from watching.
    let sink = match &args.write {
        Some(path) if path.as_os_str() != "-" => Sink::of(create(path).map_err(|source| unwritable(path, source))?),
        _ => Sink::stdout()?,
    };
    let mut capture =
        Capture { applied, filter, network: wanted.network, came: HashMap::new(), offset: watch::clock_offset() };
    let mut session = Session::begin(&capture.applied.root, wanted, &args.until)?;
    session.run(&mut Frames::begin(sink, args, global.output)?, |frames, event, bytes| {
        let Some((frame, bytes)) = capture.frame(event, bytes)? else { return Ok(false) };
        // Of one that was cut, too, the tag is a part.
        let len = frame.length + if event.tag == 0 { 0 } else { 4 };
        frames.put(&frame, event.time_ns + capture.offset, &bytes, len)?;
        Ok(true)
    })?;
    session.end(args.write.as_ref().map(|_| "frames captured"))?;
    Ok(Exit::Done)
}

/// What is captured.
struct Capture {
    applied: Applied,
    filter: Filter,
    network: u32,
    /// By processor: the frame that came in last.
    came: HashMap<u32, Came>,
    offset: u64,
}

/// A frame that came in.
struct Came {
    /// Where.
    ifindex: u32,
    /// It is wanted.
    is_wanted: bool,
    /// Its headers, where only what becomes of it tells whether it is.
    undecided: Option<Headers>,
    network: u32,
}

impl Capture {
    /// A frame that is wanted, with its bytes. One that is rewritten is wanted where it was wanted as it came: a hook is
    /// done with a frame before its processor begins another.
    fn frame(&mut self, event: &Event, bytes: &[u8]) -> Result<Option<(Frame, Vec<u8>)>, Error> {
        let is_entry = event.kind == event_kind::ENTRY;
        let bytes = with_tag(bytes, event.tag);
        let packet = Headers::of(&bytes, &self.applied.tunnel_ports);
        let mut network = self.network_of(event, &packet)?;
        // What XDP passes, TC decides about.
        let is_passed_on = event.hook == event_hook::FROM_UPLINK_XDP && event.action == event_action::PASS;
        let is_decided = !(is_entry || is_passed_on) || !self.filter.asks_outcome();
        let outcome = Outcome { verdict: verdict(event, is_entry), reason: DropReason::from_code(event.reason) };
        let mut is_wanted = is_decided && self.filter.wants(&packet, outcome);
        if is_entry {
            let undecided = (!is_decided).then(|| packet.clone());
            self.came.insert(event.cpu, Came { ifindex: event.ifindex, is_wanted, undecided, network });
        } else if let Some(came) = self.came.remove(&event.cpu).filter(|came| came.ifindex == event.ifindex) {
            let is_wanted_by = |came: Headers| is_decided && self.filter.wants(&came, outcome);
            is_wanted |= came.is_wanted || came.undecided.is_some_and(is_wanted_by);
            network = if network == 0 { came.network } else { network };
        }
        if !is_wanted || self.network != 0 && network != self.network {
            return Ok(None);
        }
        self.applied.keep_up(network, shown_device(event, is_entry))?;
        Ok(Some((self.words(event, network, packet, is_entry), bytes)))
    }

    fn words(&self, event: &Event, network: u32, packet: Headers, is_entry: bool) -> Frame {
        let names = &self.applied.names;
        let reason = DropReason::from_code(event.reason);
        Frame {
            time: watch::timestamp(event.time_ns + self.offset),
            direction: if is_entry { "in" } else { "out" },
            network: (network != 0).then(|| names.network(network)),
            device: names.device(shown_device(event, is_entry)),
            hook: watch::hook(event),
            verdict: verdict(event, is_entry),
            reason: reason.map(DropReason::label),
            explanation: reason.map(DropReason::sentence),
            length: event.len,
            packet,
        }
    }

    /// The network of a frame: as the data path says, as the guest's device, or as its VNI or VLAN id tells.
    fn network_of(&self, event: &Event, packet: &Headers) -> Result<u32, Error> {
        let known = watch::network_of(&self.applied, event)?;
        let id = packet.vni.or(packet.vlans.first().map(|vlan| u32::from(*vlan)));
        let Some(id) = id.filter(|_| known == 0) else { return Ok(known) };
        let udp_port = packet.vni.and(packet.destination_port).map_or(0, u32::from);
        let segment = self.applied.tables.segments.get(&SegmentKey { ifindex: event.ifindex, udp_port, id })?;
        Ok(segment
            .filter(|row| row.flags & netpath_common::maps::segment_flags::PUBLIC == 0)
            .map_or(0, |row| row.network))
    }
}

/// What became of a frame that is done with.
fn verdict(event: &Event, is_entry: bool) -> Option<&'static str> {
    match event.action {
        _ if is_entry => None,
        event_action::REDIRECT | event_action::REDIRECT_NEIGHBOUR => Some("sent"),
        event_action::PASS => Some("passed"),
        event_action::REFUSED => Some("dropped"),
        _ => Some("consumed"),
    }
}

/// The device that a frame came in on; of one that is sent, the device that it leaves by.
fn shown_device(event: &Event, is_entry: bool) -> u32 {
    match event.action {
        event_action::REDIRECT | event_action::REDIRECT_NEIGHBOUR if !is_entry => event.target,
        _ => event.ifindex,
    }
}

/// A frame with the tag in it that its device has taken off, or has still to put on.
fn with_tag(bytes: &[u8], tag: u32) -> Vec<u8> {
    match bytes.split_at_checked(12) {
        Some((addresses, rest)) if tag != 0 => [addresses, &tag.to_be_bytes(), rest].concat(),
        _ => bytes.to_vec(),
    }
}

/// Opens a file that nobody else may read, whatever it was before: frames are what guests say to each other. A symbolic link
/// to a file is not followed, which another user may have put there, and another user's file is left alone.
fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let opened = options.write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return behind_link(path),
        opened => opened?,
    };
    let found = file.metadata()?;
    if found.is_file() {
        if found.uid() != geteuid().as_raw() {
            return Err(refused(path, "belongs to another user"));
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Takes out what was in a file before: not sooner than it is known that the command may watch. Standard output may be a file that is
/// appended to.
fn empty(file: &File, args: &Args) -> io::Result<()> {
    let is_own = args.write.as_ref().is_some_and(|path| path.as_os_str() != "-");
    if is_own && file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// What a symbolic link leads to, where that is a pipe, a terminal or another device: `/dev/stdout`, `/dev/fd/63`.
fn behind_link(path: &Path) -> io::Result<File> {
    // Nothing is written to, and nothing is waited for, before it is known what it is.
    if fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Err(refused(path, "is a symbolic link"));
    }
    let file = File::options().write(true).open(path)?;
    match file.metadata()?.is_file() {
        true => Err(refused(path, "is a symbolic link")),
        false => Ok(file),
    }
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::other(format!("{} {why}: name a file of your own", path.display()))
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    Error::CaptureFile { path: path.to_owned(), source }
}

impl Frames {
    /// Begins, in a file with nothing in it.
    fn begin(sink: Sink, args: &Args, format: Format) -> Result<Self, Error> {
        match &args.write {
            None => Ok(Self::Text(sink, format)),
            Some(path) => {
                let begun = empty(sink.file(), args).and_then(|()| Writer::begin(sink, args.snaplen));
                Ok(Self::File(begun.map_err(|source| unwritable(path, source))?))
            }
        }
    }

    /// Puts a frame there.
    fn put(&mut self, frame: &Frame, time_ns: u64, bytes: &[u8], len: u32) -> Result<(), Error> {
        let writer = match self {
            Self::Text(sink, format) => return sink.put(*format, frame, Frame::line),
            Self::File(writer) => writer,
        };
        let packet = Packet {
            device: &frame.device,
            time_ns,
            direction: if frame.verdict == Some("sent") { Direction::Outbound } else { Direction::Inbound },
            bytes,
            len: len.max(bytes.len() as u32),
            comment: &frame.comment(),
        };
        writer.packet(&packet).map_err(Error::Output)
    }
}

impl AsMut<Sink> for Frames {
    fn as_mut(&mut self) -> &mut Sink {
        match self {
            Self::Text(sink, _) => sink,
            Self::File(writer) => writer.to(),
        }
    }
}

impl Frame {
    /// What is known of the frame, for whoever opens the file.
    fn comment(&self) -> String {
        let network = self.network.as_deref().unwrap_or("unknown");
        let became = match (self.verdict, self.reason, self.explanation) {
            (None, ..) => "as it came in".to_owned(),
            (Some(verdict), Some(reason), Some(why)) => format!("{verdict}, {reason}: {why}"),
            (Some(verdict), ..) => verdict.to_owned(),
        };
        format!("network {network}, {} by {}: {became}", self.direction, self.hook)
    }

    fn line(&self) -> String {
        let Self { direction, device, packet, .. } = self;
        format!("{} {direction:<3} {device} {packet}  {}\n", &self.time[11..26], self.comment())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_is_followed_to_what_is_no_file_only() {
        let folder = std::env::temp_dir().join(format!("netpath-capture-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, link, device) = (folder.join("file"), folder.join("link"), folder.join("device"));
        fs::write(&file, "kept").unwrap();
        symlink(&file, &link).unwrap();
        symlink("/dev/null", &device).unwrap();
        let error = create(&link).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        create(&device).unwrap().write_all(b"frames").unwrap();
        create(&file).unwrap();
        let found = fs::metadata(&file).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (4, 0o600), "it is emptied when the capture begins");
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        create(Path::new(&path)).unwrap().write_all(b"frames").unwrap();
        let mut bytes = [0; 6];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        assert_eq!(&bytes, b"frames");
        let _ = fs::remove_dir_all(folder);
    }

    #[test]
    fn a_file_of_another_user_is_left_alone() {
        if !geteuid().is_root() {
            return;
        }
        let path = std::env::temp_dir().join(format!("netpath-capture-other-{}", std::process::id()));
        fs::write(&path, "kept").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        let error = create(&path).unwrap_err().to_string();
        assert!(error.contains("belongs to another user"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        fs::remove_file(path).unwrap();
    }
}
