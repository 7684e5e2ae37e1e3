//! Which rate holds for what.

use std::{fmt, net::Ipv4Addr};

use netpath_common::{maps::Limit, stage::meter};

use super::{
    decode::At,
    model::{Network, Nic, Offering, Zone},
    values::{Burst, Rate},
};

/// A rate that is limited, and its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Bits per second, counted over frames with their Ethernet headers.
    pub bits_per_second: u64,
    /// Bytes that may pass at once beyond it.
    pub burst: u64,
}

impl RateLimit {
    /// The row of LIMITS that it is, on a way on which so many bytes above it may wait.
    pub fn row(self, room: u64) -> Limit {
        let horizon = meter::horizon(self.bits_per_second, room);
        Limit { horizon, ..meter::limit(self.bits_per_second, self.burst) }
    }

    /// The limit that a row is; `None` for none. A row has the time of a byte, in which many rates are one: of those it is the
    /// roundest.
    pub fn of_row(row: &Limit) -> Option<Self> {
        if row.byte_time == 0 {
            return None;
        }
        let bits = meter::bits_per_second(row);
        let tens = (0..15).rev().map(|zeros| 10_u64.pow(zeros));
        let rounded = tens.map(|ten| (bits + ten / 2) / ten * ten).filter(|bits| *bits > 0);
        let is_row = |bits: &u64| meter::limit(*bits, 0).byte_time == row.byte_time;
        let bits_per_second = rounded.into_iter().find(is_row).unwrap_or(bits);
        let least = meter::burst_bytes(row);
        let burst = (least..least + 2).find(|burst| meter::limit(bits_per_second, *burst).burst == row.burst);
        Some(Self { bits_per_second, burst: burst.unwrap_or(least) })
    }

    /// The limit of a rate and of the burst that stands beside it; `None`: unlimited.
    pub(super) fn of(rate: Rate, burst: Option<Burst>) -> Option<Self> {
        match rate {
            Rate::Unlimited => None,
            Rate::BitsPerSecond(bits_per_second) => {
                let burst = burst.map_or_else(|| meter::default_burst(bits_per_second), Burst::bytes);
                Some(Self { bits_per_second, burst })
            }
        }
    }
}

impl fmt::Display for RateLimit {
    /// The rate, and the burst where it is not the one that the rate makes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Rate::BitsPerSecond(self.bits_per_second).fmt(f)?;
        if self.burst != meter::default_burst(self.bits_per_second) {
            write!(f, ", burst {}", Burst::from(self.burst))?;
        }
        Ok(())
    }
}

/// A rate and its burst as one object has them.
type Pair = (Option<At<Rate>>, Option<At<Burst>>);

/// The limit of the first object that says a rate. Its burst is the one beside it: another object's is for another rate.
fn first(pairs: impl IntoIterator<Item = Pair>) -> Option<RateLimit> {
    let (rate, burst) = pairs.into_iter().find_map(|(rate, burst)| Some((rate?, burst)))?;
    RateLimit::of(*rate, burst.map(|burst| *burst))
}

impl Zone {
    /// The offering that a network is made from.
    pub fn offering_of(&self, network: &Network) -> Option<&Offering> {
        let name = network.offering.as_ref()?;
        self.offerings.iter().find(|offering| offering.name.value == name.value)
    }

    /// The limit of a NIC in each direction: its own, its network's, the offering's, the zone's. An unlimited rate is one, too.
    pub fn nic_limit(&self, network: &Network, offering: Option<&Offering>, nic: &Nic) -> Option<RateLimit> {
        first([
            (nic.network_rate, nic.network_burst),
            (network.network_rate, network.network_burst),
            offering.map_or((None, None), |offering| (offering.network_rate, offering.network_burst)),
            (Some(self.default_rate), None),
        ])
    }

    /// The limit of all NICs of a network on a host together, in each direction: its own, the offering's.
    pub fn network_limit(&self, network: &Network, offering: Option<&Offering>) -> Option<RateLimit> {
        first([
            (network.aggregate_rate, network.aggregate_burst),
            offering.map_or((None, None), |offering| (offering.aggregate_rate, offering.aggregate_burst)),
        ])
    }

    /// The limit of all NICs of an account's networks on a host together, in each direction.
    pub fn account_limit(&self, account: &str) -> Option<RateLimit> {
        let account = self.accounts.iter().find(|known| known.name.as_str() == account)?;
        first([(account.aggregate_rate, account.aggregate_burst)])
    }

    /// The limit of a public address of a network, or of another network of its router, in each direction.
    pub fn address_limit(&self, network: &Network, address: Ipv4Addr) -> Option<RateLimit> {
        let rates = self.tiers(network).flat_map(|tier| &tier.public_rates);
        let rate = rates.into_iter().find(|rate| *rate.public == address)?;
        first([(Some(rate.rate), rate.burst)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_rate_and_the_burst_that_it_was_made_of() {
        for bits_per_second in [1_000, 64_000, 1_234_000, 10_000_000, 200_000_000, 5_000_000_000, 100_000_000_000] {
            for burst in [1514, 30_000, 65_536, 2_500_000, 1 << 30] {
                let limit = RateLimit { bits_per_second, burst };
                for room in [0, 150_000, 6_000_000] {
                    assert_eq!(RateLimit::of_row(&limit.row(room)), Some(limit));
                }
            }
        }
        assert_eq!(RateLimit::of_row(&Limit::default()), None);
    }

    #[test]
    fn a_burst_is_told_where_the_rate_does_not_make_it() {
        let text = |bits_per_second, burst| RateLimit { bits_per_second, burst }.to_string();
        assert_eq!(text(200_000_000, 2_500_000), "200Mbps");
        assert_eq!(text(5_000_000_000, 1 << 20), "5Gbps, burst 1MiB");
    }
}
