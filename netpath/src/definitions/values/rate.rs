//! Rates and bursts.

use std::fmt;

use serde_json::{Value, json};

use super::{Problem, problem};
use crate::definitions::decode::Scalar;

/// A rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rate {
    /// No limit: written 0 or -1.
    Unlimited,
    /// Bits per second, counted over frames with their Ethernet headers.
    BitsPerSecond(u64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::BitsPerSecond(rate) if rate % 1_000_000_000 == 0 => write!(f, "{}Gbps", rate / 1_000_000_000),
            Self::BitsPerSecond(rate) if rate % 1_000_000 == 0 => write!(f, "{}Mbps", rate / 1_000_000),
            Self::BitsPerSecond(rate) => write!(f, "{}kbps", rate / 1000),
        }
    }
}

/// The units a rate may have, in bits per second. Without one it is Mbit/s, CloudStack's unit.
const RATE_UNITS: [(&str, u64); 4] = [("kbps", 1000), ("Mbps", 1_000_000), ("Gbps", 1_000_000_000), ("", 1_000_000)];
/// Far above any device: 100 Tbit/s.
const RATE_MAX: u64 = 100_000_000_000_000;

impl Scalar for Rate {
    const STAND_IN: Self = Self::Unlimited;

    fn parse(text: &str) -> Result<Self, Problem> {
        if text == "-1" {
            return Ok(Self::Unlimited);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let factor = RATE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| factor);
        match (number.parse::<u64>(), factor) {
            (Ok(0), Some(_)) => Ok(Self::Unlimited),
            (Ok(number), Some(factor)) => match number.checked_mul(*factor).filter(|rate| *rate <= RATE_MAX) {
                Some(rate) => Ok(Self::BitsPerSecond(rate)),
                None => problem("a rate beyond any device", "use at most 100000Gbps, or 0 for no limit"),
            },
            _ => problem("not a rate", "write it like 200Mbps, 1Gbps or 500kbps, or 0 for no limit"),
        }
    }

    /// A capital B is bytes everywhere else, but where all letters are capital. Builds before this one took it for bits, and so does
    /// what they have applied.
    fn objection(text: &str) -> Option<Problem> {
        match Self::parse(text) {
            Ok(bits @ Self::BitsPerSecond(number)) if text.contains("Bp") => {
                let bytes = Self::BitsPerSecond(number.saturating_mul(8));
                let expected = format!("write {bytes} where bytes are meant, {bits} where bits are");
                Some(("a rate with a capital B, which is bytes, and rates are in bits".to_owned(), expected))
            }
            _ => None,
        }
    }

    fn schema() -> Value {
        let pattern = "^(-1|[0-9]+ *([kK]|[mM]|[gG])(b[pP]|BP)[sS])$|^[0-9]+$";
        json!({"type": ["string", "integer"], "minimum": -1, "pattern": pattern})
    }
}

/// How much may pass at once beyond a rate, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Burst(u64);

/// A frame of Ethernet's MTU with its header: less than that is no burst.
const BURST_MIN: u64 = 1514;
/// More than any device has room for.
const BURST_MAX: u64 = 1 << 30;
/// The units a burst may have, in bytes, the largest that divides it first when it is printed.
const BURST_UNITS: [(&str, u64); 6] =
    [("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1000), ("", 1), ("B", 1)];

impl Burst {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl From<u64> for Burst {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = BURST_UNITS.iter().filter(|(name, _)| !name.is_empty());
        let (name, unit) = units.into_iter().find(|(_, unit)| self.0.is_multiple_of(*unit)).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Scalar for Burst {
    const STAND_IN: Self = Self(BURST_MIN);
    const IS_QUOTED: bool = true;

    fn parse(text: &str) -> Result<Self, Problem> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let factor = BURST_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| factor);
        let (Ok(number), Some(factor)) = (number.parse::<u64>(), factor) else {
            return problem("not a burst", "write it in bytes, like 30000, 64KiB or 1MB");
        };
        match number.checked_mul(*factor) {
            Some(bytes @ BURST_MIN..=BURST_MAX) => Ok(Self(bytes)),
            Some(..BURST_MIN) => {
                problem("a burst smaller than a frame", format!("use {BURST_MIN} bytes or more, or leave it out"))
            }
            _ => problem("a burst beyond any use", "use at most 1024MiB, or leave it out"),
        }
    }

    fn schema() -> Value {
        let pattern = "^[0-9]+ *([kK][iI]?|[mM][iI]?)?[bB]?$";
        json!({"type": ["string", "integer"], "minimum": BURST_MIN, "maximum": BURST_MAX, "pattern": pattern})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_reads_back_as_it_is_printed() {
        for (text, bytes, printed) in [
            ("30000", 30_000, "30KB"),
            ("64KiB", 65_536, "64KiB"),
            ("2MB", 2_000_000, "2MB"),
            ("1 mib", 1 << 20, "1MiB"),
            ("1514", 1514, "1514B"),
            ("1514B", 1514, "1514B"),
        ] {
            let burst = Burst::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!((burst.bytes(), burst.to_string().as_str()), (bytes, printed), "{text}");
            assert_eq!(Burst::parse(printed), Ok(burst));
        }
    }

    #[test]
    fn a_rate_in_bytes_is_objected_to_with_both_that_may_be_meant() {
        for (text, expected) in [
            ("100MBps", "write 800Mbps where bytes are meant, 100Mbps where bits are"),
            ("1 GBps", "write 8Gbps where bytes are meant, 1Gbps where bits are"),
            ("125kBps", "write 1Mbps where bytes are meant, 125kbps where bits are"),
        ] {
            assert_eq!(Rate::objection(text).unwrap().1, expected, "{text}");
        }
        for text in ["100Mbps", "100mbps", "100MBPS", "100", "-1", "0MBps"] {
            assert_eq!(Rate::objection(text), None, "{text}");
        }
    }

    #[test]
    fn a_burst_has_bounds_and_units() {
        let says = |text: &str| Burst::parse(text).expect_err(text).0;
        assert_eq!(says("1513"), "a burst smaller than a frame");
        assert_eq!(says("1025MiB"), "a burst beyond any use");
        assert_eq!(says("99999999999999999MB"), "a burst beyond any use");
        for text in ["", "KB", "-1", "1.5MB", "10Mbps", "64K"] {
            assert_eq!(says(text), "not a burst", "{text}");
        }
    }
}
