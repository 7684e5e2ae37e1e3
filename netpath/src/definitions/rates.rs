//! Which rate holds for what.

use std::net::Ipv4Addr;

use netpath_common::stage::meter;

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
