//! `Pod` in aya's sense, for the map types of the loader.

use super::*;
use crate::floor::{Row, Traffic, Walk};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        // SAFETY: each is `repr(C)` and `bytemuck::Pod`: no padding, no pointers, any bytes are a value.
        $(unsafe impl aya::Pod for $type {})+
    };
}

pod!(
    Port,
    AddressKey,
    Network,
    UplinkKey,
    Uplink,
    SegmentKey,
    Segment,
    EndpointKey,
    Endpoint,
    FdbKey,
    Destination,
    Learned,
    NeighbourKey,
    Neighbour,
    Tunnel,
    NextHop,
    FloodKey,
    NameKey,
    Name,
    Counters,
    DropKey,
    FlowKey,
    Flow,
    BindingKey,
    Binding,
    FragmentKey,
    Fragment,
    GatewayState,
    Gateway,
    Rule,
    RouteKey,
    Route,
    PublicKey,
    PublicAddress,
    StaticKey,
    StaticNat,
    ForwardKey,
    Forward,
    Upstream,
    Resolved,
    Limit,
    Meter,
    MeterEvents,
    PortMeters,
    Shares,
    Event,
    Watch,
    Watched,
    Row,
    Traffic,
    Walk,
);
