//! Rows of the maps that say who watches.

use netpath_common::maps::{Watch, Watched, event_kind};
use serde_json::json;

use super::{Decode, Fields, flags};
use crate::applied::Names;

decode! {
    Watch: |this, names| [
        "kinds": flags(this.kinds, &[
            (1 << event_kind::DROP, "drop"),
            (1 << event_kind::CONNECTION, "connection"),
            (1 << event_kind::EXHAUSTION, "exhaustion"),
            (1 << event_kind::ENTRY, "entry"),
            (1 << event_kind::EXIT, "exit"),
        ]),
        "until_ns": this.until_ns,
        "network": names.network(this.network),
        "reason": this.reason,
        "device": names.device(this.ifindex),
        "rate": this.rate,
        "bytes": this.bytes,
        "process": this.process,
    ];
    Watched: |this, _names| [
        "second_ns": this.second_ns,
        "count": this.count,
        "suppressed": this.suppressed,
        "lost": this.lost,
    ];
}
