//! Traffic that goes on through all faults, frame by frame: of each it is known whether it arrived.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    guest::{
        PATIENCE, RawGuest,
        raw::{contains, marker},
    },
    packet::{Endpoint, Mac, Packet, dissect, guest},
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK, ROUTER, shared},
    },
};

/// The generators' own pace.
const PACE: Duration = Duration::from_millis(2);
/// A frame that has not come after this is lost, unless it was sent in an outage.
const LOST: Duration = Duration::from_secs(10);
/// A frame that was sent in an outage and has not come after this is lost.
const LOST_IN_OUTAGE: Duration = Duration::from_millis(100);

/// The guest behind the device that faults delete and make again.
pub(super) type Comer = Arc<Mutex<Option<RawGuest>>>;

/// The stream to the device that comes and goes.
pub(super) const COMER: &str = "to the device that goes";

/// The port of green's NIC 17 that the stream that is translated comes from.
pub(super) const TRANSLATED: u16 = 7000;

/// All streams, until they are dropped.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    streams: Vec<Stream>,
}

struct Stream {
    name: &'static str,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

/// What has become of the frames of a stream.
#[derive(Default)]
struct Progress {
    stop: Arc<AtomicBool>,
    /// A fault is on that this stream may lose frames by.
    is_out: AtomicBool,
    delivered: AtomicU64,
    lost_inside: AtomicU64,
    lost_outside: AtomicU64,
    /// The public port of the stream that is translated, and how often it was another one than before.
    public: AtomicU16,
    mapped_anew: AtomicU64,
}

/// Frames of all streams together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    pub(super) delivered: u64,
    pub(super) lost_inside: u64,
    pub(super) lost_outside: u64,
    pub(super) mapped_anew: u64,
}

impl Traffic {
    /// Begins the streams; `gateway` is that of green's network.
    pub(super) fn begin(topology: &Arc<TwoHypervisors>, comer: &Comer, gateway: Mac) -> Self {
        let mut traffic = Self { stop: Arc::default(), streams: Vec::new() };
        let own = topology.clone();
        traffic.stream("between hosts", move |progress| {
            let (a, b) = (own.raw("green", 11), own.raw("green", 12));
            progress.both_ways((a, 11), (b, 12));
        });
        let own = topology.clone();
        traffic.stream("within a host", move |progress| {
            let (a, b) = (own.raw("blue", 13), own.raw("blue", 15));
            progress.both_ways((a, 13), (b, 15));
        });
        let own = topology.clone();
        let hv = topology.hosts[0].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).expect("the uplink exists");
        let router = topology.internet().raw_router();
        traffic.stream("translated", move |progress| {
            let (a, out) = (own.raw("green", 17), marker());
            let frame = guest(Endpoint::numbered(17)).to_mac(gateway).to_ip(INTERNET.ip).udp(TRANSLATED, 7777);
            let frame = frame.payload(&out).build();
            let Some(seen) = progress.pass(|| a.send(&frame), |until| router.until(until, |f| contains(f, &out)))
            else {
                return;
            };
            let public = dissect(&seen).and_then(|d| d.ports().map(|ports| ports.0)).expect("a datagram has ports");
            let before = progress.public.swap(public, Ordering::Relaxed);
            progress.mapped_anew.fetch_add(u64::from(before != 0 && before != public), Ordering::Relaxed);
            let back = Packet::between(ROUTER.mac, hv, INTERNET.ip.into(), shared("green").into());
            let answer = marker();
            let frame = back.udp(7777, public).payload(&answer).build();
            progress.pass(|| router.send(&frame), |until| a.until(until, |f| contains(f, &answer)));
        });
        let (own, comer) = (topology.clone(), comer.clone());
        traffic.stream(COMER, move |progress| {
            let a = own.raw("blue", 16);
            let held = || comer.lock().unwrap_or_else(PoisonError::into_inner);
            let payload = marker();
            let there = guest(Endpoint::numbered(16)).to(Endpoint::numbered(14)).payload(&payload).build();
            let arrives = |until| held().as_ref()?.until(until, |f| contains(f, &payload));
            if progress.pass(|| a.send(&there), arrives).is_none() {
                return;
            }
            let payload = marker();
            let back = guest(Endpoint::numbered(14)).to(Endpoint::numbered(16)).payload(&payload).build();
            let send = || held().as_ref().into_iter().for_each(|late| late.send(&back));
            progress.pass(send, |until| a.until(until, |f| contains(f, &payload)));
        });
        traffic
    }

    fn stream(&mut self, name: &'static str, round: impl Fn(&Progress) + Send + 'static) {
        let progress = Arc::new(Progress { stop: self.stop.clone(), ..Progress::default() });
        let own = progress.clone();
        let thread = thread::spawn(move || {
            while !own.stop.load(Ordering::Relaxed) {
                round(&own);
                thread::sleep(PACE);
            }
        });
        self.streams.push(Stream { name, progress, thread: Some(thread) });
    }

    /// Frames of these streams (of all where none is named) may be lost from now on.
    pub(super) fn outage(&self, names: &[&str]) {
        for stream in self.streams.iter().filter(|stream| names.is_empty() || names.contains(&stream.name)) {
            stream.progress.is_out.store(true, Ordering::SeqCst);
        }
    }

    /// Waits until every stream gets frames through both ways; from then on, none may lose one.
    #[track_caller]
    pub(super) fn flows(&self) {
        self.streams.iter().for_each(Stream::flows);
        self.streams.iter().for_each(|stream| stream.progress.is_out.store(false, Ordering::SeqCst));
    }

    /// Waits until one stream gets frames through both ways.
    #[track_caller]
    pub(super) fn flows_in(&self, name: &str) {
        self.streams.iter().filter(|stream| stream.name == name).for_each(Stream::flows);
    }

    /// What has become of all frames until now.
    pub(super) fn frames(&self) -> Frames {
        self.streams.iter().fold(Frames::default(), |sum, Stream { progress, .. }| Frames {
            delivered: sum.delivered + progress.delivered.load(Ordering::SeqCst),
            lost_inside: sum.lost_inside + progress.lost_inside.load(Ordering::SeqCst),
            lost_outside: sum.lost_outside + progress.lost_outside.load(Ordering::SeqCst),
            mapped_anew: sum.mapped_anew + progress.mapped_anew.load(Ordering::SeqCst),
        })
    }
}

impl Stream {
    /// Waits until a frame of each way that was sent after now has arrived. Whatever is under way is judged by then.
    #[track_caller]
    fn flows(&self) {
        let mark = self.progress.delivered.load(Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while self.progress.delivered.load(Ordering::SeqCst) < mark + 3 {
            assert!(self.thread.as_ref().is_some_and(|t| !t.is_finished()), "traffic {} got a bad frame", self.name);
            assert!(Instant::now() < deadline, "traffic {} does not flow again", self.name);
            thread::sleep(PACE);
        }
    }
}

impl Progress {
    /// A frame from one guest to another, both with their numbers, and one back.
    fn both_ways(&self, a: (&RawGuest, u8), b: (&RawGuest, u8)) {
        for ((from, source), (to, destination)) in [(a, b), (b, a)] {
            let payload = marker();
            let frame = guest(Endpoint::numbered(source)).to(Endpoint::numbered(destination));
            let frame = frame.payload(&payload).build();
            self.pass(|| from.send(&frame), |until| to.until(until, |f| contains(f, &payload)));
        }
    }

    /// Sends a frame, and waits until it has arrived or counts as lost.
    fn pass(&self, send: impl FnOnce(), mut arrives: impl FnMut(Instant) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let was_out = self.is_out.load(Ordering::SeqCst);
        send();
        let deadline = Instant::now() + LOST;
        loop {
            if let Some(frame) = arrives(Instant::now() + LOST_IN_OUTAGE) {
                self.delivered.fetch_add(1, Ordering::SeqCst);
                return Some(frame);
            }
            let lost = if self.stop.load(Ordering::Relaxed) {
                return None;
            } else if was_out || self.is_out.load(Ordering::SeqCst) {
                &self.lost_inside
            } else if Instant::now() > deadline {
                &self.lost_outside
            } else {
                continue;
            };
            lost.fetch_add(1, Ordering::SeqCst);
            return None;
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for stream in &mut self.streams {
            // A stream that panicked has said so, and was found by whoever waited for it.
            let _ = stream.thread.take().map(JoinHandle::join);
        }
    }
}
