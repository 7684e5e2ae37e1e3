//! Meters: limits as the loader writes them, and the clocks of meters at any distance from now.

use std::net::Ipv4Addr;

use netpath_common::{
    maps::{Limit, Meter, MeterEvents, PortMeters, PublicAddress, PublicKey, meter_row},
    stage::meter::{self, SECOND, TICKS},
};
use netpath_tests::packet::Endpoint;
use rustix::time::{ClockId, clock_gettime};

use super::{PUBLIC, Rig, slot};

/// The rate of every limit of the rig, in bits per second: a byte takes 8 microseconds.
pub const RATE: u64 = 1_000_000;
/// Its burst in bytes: ten seconds of credit, and a packet may wait for as long, which the slowest machine does not use up
/// between two lines of a test.
pub const BURST: u64 = 1_250_000;
/// The index of the public address that is counted.
pub const ADDRESS: u16 = 3;

/// Now, in ticks.
pub fn ticks() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64) * TICKS
}

impl Rig {
    /// Gives a station's port meters, each with a limit in both directions.
    pub fn limited(&mut self, network: u32, station: Endpoint, meters: PortMeters) {
        self.array("PORT_METERS", slot(network, station), meters);
        for meter in [meters.port, meters.network, meters.account].into_iter().filter(|meter| *meter != 0) {
            self.limit(meter);
        }
    }

    /// Gives a meter a limit in both directions, and all of its credit. It is of a host that paces.
    pub fn limit(&mut self, meter: u32) {
        for direction in [0, 1] {
            let limit = Limit { horizon: 10 * SECOND, ..meter::limit(RATE, BURST) };
            self.array("LIMITS", meter_row(meter, direction), limit);
            self.array("METERS", meter_row(meter, direction), Meter::default());
        }
    }

    /// Gives a public address a meter, and has it counted.
    pub fn limited_address(&mut self, address: Ipv4Addr, meter: u32) {
        let key = PublicKey { side: PUBLIC, address: address.octets() };
        let row: PublicAddress = self.get("PUBLIC_ADDRESS", key).unwrap();
        self.put("PUBLIC_ADDRESS", key, PublicAddress { index: ADDRESS, ..row });
        self.array("PUBLIC_METERS", u32::from(ADDRESS), meter);
        self.limit(meter);
    }

    /// Has everything that passed a meter paid for so long from now, or so long ago; gives that time.
    pub fn paid_in(&mut self, meter: u32, direction: u32, seconds: f64) -> u64 {
        let at = ticks().saturating_add_signed((seconds * SECOND as f64) as i64);
        self.change("METERS", meter_row(meter, direction), |row: &mut Meter| row.time = at);
        at
    }

    /// What passed a meter, in bytes.
    pub fn passed(&self, meter: u32, direction: u32) -> u64 {
        self.read::<Meter>("METERS", meter_row(meter, direction)).passed
    }

    /// What became of packets because of a meter's limit.
    pub fn events(&self, meter: u32, direction: u32) -> MeterEvents {
        self.read("METER_EVENTS", meter_row(meter, direction))
    }

    /// Takes limits off again, and what was counted for the public address.
    pub fn unlimited(&mut self) {
        for (slot, row) in (0..).zip(self.first::<PortMeters>("PORT_METERS", 600)) {
            if row != PortMeters::default() {
                self.array("PORT_METERS", slot, PortMeters::default());
            }
        }
        self.reset_public_counters(ADDRESS);
        self.array("PUBLIC_METERS", u32::from(ADDRESS), 0u32);
        for row in 0..32 {
            self.array("METER_EVENTS", row, MeterEvents::default());
            self.array("METERS", row, Meter::default());
        }
    }
}
