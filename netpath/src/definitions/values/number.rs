//! Numbers: bounded integers, id ranges, segments, ports.

use std::fmt;

use serde_json::{Value, json};

use super::{Problem, problem};
use crate::definitions::decode::Scalar;

/// An integer from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Int<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    /// The number; bounds outside the type asked for are refused at compile time where it is used as a constant.
    pub const fn new(value: i64) -> Self {
        assert!(MIN <= value && value <= MAX, "the number is within its bounds");
        Self(value)
    }

    /// The number, for fields whose bounds are within u32.
    pub fn get(&self) -> u32 {
        const { assert!(MIN >= 0 && MAX <= u32::MAX as i64) };
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// The number, for fields whose bounds are within u16.
    pub fn get_u16(&self) -> u16 {
        const { assert!(MIN >= 0 && MAX <= u16::MAX as i64) };
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The number.
    pub fn as_i64(&self) -> i64 {
        self.0
    }
}

impl<const MIN: i64, const MAX: i64> fmt::Display for Int<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: i64, const MAX: i64> Scalar for Int<MIN, MAX> {
    const STAND_IN: Self = Self(MIN);

    fn parse(text: &str) -> Result<Self, Problem> {
        match text.parse::<i64>() {
            Ok(value) if (MIN..=MAX).contains(&value) => Ok(Self(value)),
            Ok(_) => problem("out of range", format!("use {MIN} to {MAX}")),
            Err(_) => problem("not an integer", format!("use an integer from {MIN} to {MAX}")),
        }
    }

    fn schema() -> Value {
        json!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

/// VLAN ids or VNIs: `5000-9999`, `100`, or several of them with commas between. Sorted, disjoint, inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids(Vec<(u32, u32)>);

impl Ids {
    /// Whether `id` is one of them.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }

    /// The ranges, first and last of each, ascending.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// The ids that both have, as their first common range.
    pub fn overlap(&self, other: &Self) -> Option<(u32, u32)> {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
        pairs.into_iter().find(|(first, last)| first <= last)
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Scalar for Ids {
    const STAND_IN: Self = Self(Vec::new());

    fn parse(text: &str) -> Result<Self, Problem> {
        let expected = "write a range like 5000-9999, or several like 100-199,300";
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let Some((first, last)) = range::<u32>(part.trim()) else {
                return problem("not a range of ids", expected);
            };
            if first > last {
                return problem("a range that ends before it begins", format!("write {last}-{first}"));
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
            return problem(format!("the id {} twice", pair[1].0), "write ranges that do not overlap");
        }
        Ok(Self(ranges))
    }

    fn schema() -> Value {
        json!({"type": ["string", "integer"], "minimum": 1, "pattern": "^[0-9]+(-[0-9]+)?(, *[0-9]+(-[0-9]+)?)*$"})
    }
}

/// `N` or `N-M`.
fn range<T: std::str::FromStr + Copy>(text: &str) -> Option<(T, T)> {
    let decimal = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.split_once('-') {
        Some((first, last)) => Some((decimal(first.trim_end())?, decimal(last.trim_start())?)),
        None => decimal(text).map(|one| (one, one)),
    }
}

/// Which segment of its physical network a tenant network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// No VLAN tag.
    Untagged,
    /// A VLAN id or a VNI, as the physical network's isolation says.
    Id(u32),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged => f.write_str("untagged"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl Scalar for Segment {
    const STAND_IN: Self = Self::Untagged;

    fn parse(text: &str) -> Result<Self, Problem> {
        if text == "untagged" {
            return Ok(Self::Untagged);
        }
        match text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse()) {
            Some(Ok(id)) => Ok(Self::Id(id)),
            _ => problem("not a segment", "give the VLAN id or VNI as a number, or `untagged`"),
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 0xff_ffff}, {"const": "untagged"}]})
    }
}

/// TCP or UDP ports, inclusive: `N` or `N-M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl Ports {
    /// Whether it is one port only.
    pub fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// Whether both have a port in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_single() {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Scalar for Ports {
    const STAND_IN: Self = Self { first: 0, last: 0 };

    fn parse(text: &str) -> Result<Self, Problem> {
        match range::<u16>(text) {
            Some((first, last)) if first > last => {
                problem("a range that ends before it begins", format!("write {last}-{first}"))
            }
            Some((first, last)) => Ok(Self { first, last }),
            None => problem("not ports", "write one port like 443 or a range like 8000-8099, up to 65535"),
        }
    }

    fn schema() -> Value {
        json!({"type": ["integer", "string"], "minimum": 0, "maximum": 65535, "pattern": "^[0-9]+(-[0-9]+)?$"})
    }
}
