//! `netpath capture`: frames as they come to a hook and as they leave it, with what became of them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Instant,
};

use netpath_common::{
    DropReason,
    maps::{CAPTURE_BYTES, Event, SegmentKey, Watch, event_action, event_kind},
};
use serde::Serialize;

use super::{
    Exit, Format, Global,
    applied::Applied,
    monitor,
    watch::{self, Only, Signals, Until},
};
use crate::{
    datapath::{Watcher, Woken},
    error::Error,
    filter::Filter,
    headers::Headers,
    pcap::{Direction, Packet, Writer},
};

/// Capture frames before and after they are rewritten, each with its network, verdict and drop reason
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    only: Only,
    /// What is wanted: `tcp and host 10.1.1.11 and not port 22`, `arp`, `dropped`; docs/operations.md has the words
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
enum Sink {
    Text(Format),
    File(Writer<Box<dyn Write>>),
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
    let signals = Signals::catch(&Signals::ENDING)?;
    let mut capture =
        Capture { applied, filter, network: wanted.network, came: HashMap::new(), offset: watch::clock_offset() };
    let mut watcher = Watcher::begin(&capture.applied.root, wanted)?;
    let mut sink = Sink::open(args, global.output)?;
    let (begun, mut seen) = (Instant::now(), 0);
    loop {
        let mut is_closed = false;
        watcher.read(|event, bytes| {
            let Some((frame, bytes)) = capture.frame(event, bytes)? else { return Ok(true) };
            is_closed = !sink.put(&frame, event.time_ns + capture.offset, &bytes)?;
            seen += 1;
            Ok::<_, Error>(!is_closed && !args.until.is_enough(seen))
        })?;
        is_closed |= !sink.flush()?;
        let left = args.until.left(begun);
        if is_closed || args.until.is_enough(seen) || left.is_zero() {
            break;
        }
        if watcher.wait(signals.as_fd(), left)? == Woken::Other {
            break;
        }
    }
    if args.write.is_some() {
        eprintln!("{seen} frames captured");
    }
    monitor::say_untold(&watcher)?;
    Ok(Exit::Done)
}

/// What is captured.
struct Capture {
    applied: Applied,
    filter: Filter,
    network: u32,
    /// By processor: whether the frame that came in last is one that is wanted, and its network.
    came: HashMap<u32, (bool, u32)>,
    offset: u64,
}

impl Capture {
    /// A frame that is wanted, with its bytes. One that is rewritten is wanted where it was wanted as it came: a hook is
    /// done with a frame before its processor begins another.
    fn frame(&mut self, event: &Event, bytes: &[u8]) -> Result<Option<(Frame, Vec<u8>)>, Error> {
        let is_entry = event.kind == event_kind::ENTRY;
        let bytes = with_tag(bytes, event.tag);
        let packet = Headers::of(&bytes);
        let is_dropped = event.action == event_action::REFUSED && !is_entry;
        let mut network = self.network_of(event, &packet)?;
        let mut is_wanted = self.filter.wants(&packet, is_dropped);
        if is_entry {
            self.came.insert(event.cpu, (is_wanted, network));
        } else if let Some((came, from)) = self.came.remove(&event.cpu) {
            is_wanted |= came;
            network = if network == 0 { from } else { network };
        }
        if !is_wanted || self.network != 0 && network != self.network {
            return Ok(None);
        }
        Ok(Some((self.words(event, network, packet, is_entry), bytes)))
    }

    fn words(&self, event: &Event, network: u32, packet: Headers, is_entry: bool) -> Frame {
        let names = &self.applied.names;
        let reason = DropReason::from_code(event.reason);
        let verdict = match event.action {
            _ if is_entry => None,
            event_action::REDIRECT | event_action::REDIRECT_NEIGHBOUR => Some("sent"),
            event_action::PASS => Some("passed"),
            event_action::REFUSED => Some("dropped"),
            _ => Some("consumed"),
        };
        Frame {
            time: watch::timestamp(event.time_ns + self.offset),
            direction: if is_entry { "in" } else { "out" },
            network: (network != 0).then(|| names.network(network)),
            device: names.device(if verdict == Some("sent") { event.target } else { event.ifindex }),
            hook: watch::hook(event),
            verdict,
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

/// A frame with the tag in it that its device has taken off, or has still to put on.
fn with_tag(bytes: &[u8], tag: u32) -> Vec<u8> {
    match bytes.split_at_checked(12) {
        Some((addresses, rest)) if tag != 0 => [addresses, &tag.to_be_bytes(), rest].concat(),
        _ => bytes.to_vec(),
    }
}

impl Sink {
    fn open(args: &Args, format: Format) -> Result<Self, Error> {
        let to: Box<dyn Write> = match &args.write {
            None => return Ok(Self::Text(format)),
            Some(path) if path.as_os_str() == "-" => Box::new(io::stdout()),
            Some(path) => Box::new(File::create(path).map_err(Error::Output)?),
        };
        Ok(Self::File(
            Writer::begin(Box::new(BufWriter::new(to)) as Box<dyn Write>, args.snaplen).map_err(Error::Output)?,
        ))
    }

    /// Puts a frame there; `false` when nobody reads any more.
    fn put(&mut self, frame: &Frame, time_ns: u64, bytes: &[u8]) -> Result<bool, Error> {
        let put = match self {
            Self::Text(Format::Table) => io::stdout().write_all(frame.line().as_bytes()),
            Self::Text(_) => match serde_json::to_string(frame) {
                Ok(text) => io::stdout().write_all((text + "\n").as_bytes()),
                Err(error) => Err(io::Error::other(error)),
            },
            Self::File(writer) => writer.packet(&Packet {
                device: &frame.device,
                time_ns,
                direction: if frame.verdict == Some("sent") { Direction::Outbound } else { Direction::Inbound },
                bytes,
                len: frame.length.max(bytes.len() as u32),
                comment: &frame.comment(),
            }),
        };
        is_open(put)
    }

    fn flush(&mut self) -> Result<bool, Error> {
        is_open(match self {
            Self::Text(_) => io::stdout().flush(),
            Self::File(writer) => writer.flush(),
        })
    }
}

fn is_open(written: io::Result<()>) -> Result<bool, Error> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Output(error)),
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
