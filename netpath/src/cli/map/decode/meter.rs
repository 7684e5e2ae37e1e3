//! Rows of limits and meters.

use netpath_common::maps::{FROM_GUEST, Limit, Meter, MeterEvents, PortMeters, Shares};
use serde_json::{Value, json};

use super::{Decode, Fields};
use crate::{applied::Names, definitions::RateLimit};

decode! {
    Limit: |this, _names| [
        "rate": RateLimit::of_row(this).map(|limit| limit.bits_per_second),
        "burst": RateLimit::of_row(this).map(|limit| limit.burst),
        "byte_time": this.byte_time,
        "burst_ticks": this.burst,
        "horizon_ticks": this.horizon,
    ];
    Meter: |this, _names| [
        "time_ticks": this.time,
        "passed_bytes": this.passed,
        "window_start_ticks": this.window_start,
        "window_passed_bytes": this.window_passed,
        "bytes_per_second": this.rate,
        "peak_bytes_per_second": this.peak,
        "members": this.members & 0xffff,
        "refused_ticks": this.refused,
    ];
    MeterEvents: |this, _names| [
        "dropped_packets": this.dropped_packets,
        "dropped_bytes": this.dropped_bytes,
        "marked_packets": this.marked_packets,
        "marked_bytes": this.marked_bytes,
        "delayed_packets": this.delayed_packets,
        "delayed_bytes": this.delayed_bytes,
    ];
    PortMeters: |this, names| [
        "nic": meter(this.port, names),
        "network": meter(this.network, names),
        "account": meter(this.account, names),
    ];
    Shares: |this, _names| ["network": share(this.network), "account": share(this.account)];
}

/// A limit's name, or nothing where there is no limit.
fn meter(index: u32, names: &Names) -> Value {
    if index == 0 { Value::Null } else { names.meter(index).into() }
}

/// What a port has had of an aggregate in the interval under way, by direction, in units of 256 ticks.
fn share(words: [u64; 2]) -> Vec<Value> {
    words.iter().map(|word| json!({"interval": word >> 32, "units": word & 0xffff_ffff})).collect()
}

/// Key of LIMITS, METERS and METER_EVENTS.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(in crate::cli::map) struct LimitRow(pub(in crate::cli::map) u32);

impl Decode for LimitRow {
    fn decode(&self, names: &Names) -> Fields {
        let direction = if self.0 % 2 == FROM_GUEST { "from_guest" } else { "to_guest" };
        vec![("limit", names.meter(self.0 / 2).into()), ("direction", direction.into())]
    }

    fn hex(&self) -> String {
        super::hex(self)
    }
}

/// Value of PUBLIC_METERS.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(in crate::cli::map) struct MeterName(pub(in crate::cli::map) u32);

impl Decode for MeterName {
    fn decode(&self, names: &Names) -> Fields {
        vec![("limit", names.meter(self.0).into())]
    }

    fn hex(&self) -> String {
        super::hex(self)
    }
}
