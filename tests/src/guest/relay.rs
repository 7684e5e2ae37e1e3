//! Joins two taps as QEMU joins a tap and a virtio NIC: a kernel guest behind a real tap of the hypervisor.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::write,
};

use crate::topology::Tap;

/// Copies frames with their virtio headers between two taps until dropped.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts copying.
    pub fn start(hypervisor: Tap, guest: Tap) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let until = Arc::clone(&stop);
        let thread = thread::Builder::new().name("relay".into()).spawn(move || run(&until, &hypervisor, &guest))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(stop: &OwnedFd, hypervisor: &Tap, guest: &Tap) {
    let mut buffer = vec![0; 70_000];
    loop {
        let (a, b, s) = (hypervisor.fd(), guest.fd(), stop.as_fd());
        let mut ready =
            [PollFd::new(&a, PollFlags::IN), PollFd::new(&b, PollFlags::IN), PollFd::new(&s, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if !ready[2].revents().is_empty() {
            return;
        }
        for (from, to) in [(hypervisor, guest), (guest, hypervisor)] {
            // A burst, so that neither direction starves the other. A frame that the other side refuses is lost as
            // on a wire; the stacks behind the taps retransmit.
            for _ in 0..64 {
                match from.read_raw(&mut buffer) {
                    Ok(got) => drop(to.write_raw(&buffer[..got])),
                    Err(_) => break,
                }
            }
        }
    }
}
