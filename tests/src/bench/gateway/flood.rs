//! Packets whose TTL ends here: every one asks for an ICMP error, and few get one.

use anyhow::{Context, Result, ensure};

use super::{
    Gateway, ratio,
    site::{Direction, Load, Site},
};
use crate::bench::{
    experiment::{Bound, Experiment, Variant},
    lab::LONG,
};

/// The experiment.
pub const NAME: &str = "gateway: ICMP errors under flood";
const FRAMES: u32 = 1 << 19;
/// An error that quotes a small packet whole, in a tunnel: IPv4 and ICMP headers more.
const ERROR: usize = LONG + 28;

impl Gateway {
    /// TTL 1, and beside it the same packets with a TTL that lets them through.
    pub fn flood(&self) -> Experiment<'_> {
        let through = Load::new(Direction::Out, 1, FRAMES);
        Experiment {
            name: NAME,
            metrics: &["ns/packet", "errors sent"],
            variants: vec![
                Variant::with_metrics("netpath, forwarded", move || Ok(vec![self.netpath.run(&through)?, 0.0])),
                Variant::with_metrics("netpath", || expire(&self.netpath.site).with_context(|| self.netpath.drops())),
                Variant::with_metrics("Linux", || expire(&self.linux.site)),
            ],
            comparisons: vec![
                ratio("cost of an expired packet, over a forwarded one", "netpath", "netpath, forwarded", Bound::Shown),
                ratio("expired packets, times Linux", "Linux", "netpath", Bound::Shown),
            ],
        }
    }
}

fn expire(site: &Site) -> Result<Vec<f64>> {
    let load = Load { ttl: 1, counted: Some(ERROR), ..Load::new(Direction::Out, 1, FRAMES) };
    site.establish(1)?;
    let before = site.received()?;
    let elapsed = site.generate(&load, false)?;
    let errors = site.received()? - before;
    ensure!(errors < u64::from(FRAMES / 10), "{errors} errors for {FRAMES} packets: no limit");
    Ok(vec![elapsed.as_nanos() as f64 / f64::from(FRAMES), errors as f64])
}
