//! Maps that are nearly full.

use super::{Fault, Host, host::Fill};

/// Percent of a map's rows in use above which it is told of, and above which it is urgent.
const WARNING: u64 = 80;
const ERROR: u64 = 95;

pub(super) fn map_fill(host: &Host) -> Vec<Fault> {
    let fault = |fill: &Fill| {
        let Fill { map, field, rows, capacity } = fill;
        let percent = rows * 100 / capacity.max(&1);
        let (object, found) = (format!("map {map}"), format!("{rows} of {capacity} rows are in use ({percent} %)"));
        let fault = match rows * 100 {
            used if used > capacity * ERROR => Fault::error(object, found),
            used if used > capacity * WARNING => Fault::warning(object, found),
            _ => return None,
        };
        let fault = fault
            .because("a full map refuses newcomers: a definition, a connection; what is in it goes on")
            .mend(format!(
                "raise capacities.{field} of the host in the definitions; maps are made anew by `netpath detach --purge`, which \
                 interrupts traffic, and `{}`",
                host.apply
            ));
        Some(fault)
    };
    host.fills.iter().filter_map(fault).collect()
}
