//! Ranges of ports as the fewest prefixes of a 16-bit number that cover them.

/// The prefixes of `first..=last`, ascending: the first port of each, and how many of its bits count.
pub(super) fn port_prefixes(first: u16, last: u16) -> Vec<(u16, u32)> {
    let mut prefixes = Vec::new();
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    while next < end {
        // As large as its start allows, and no larger than what is left.
        let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
        let left = (end - next).ilog2();
        let size = aligned.min(left);
        prefixes.push((u16::try_from(next).unwrap_or(u16::MAX), 16 - size));
        next += 1 << size;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::port_prefixes;

    fn covered(prefixes: &[(u16, u32)]) -> Vec<u32> {
        let ports = prefixes.iter().flat_map(|(first, bits)| {
            let first = u32::from(*first);
            first..first + (1 << (16 - bits))
        });
        ports.collect()
    }

    #[test]
    fn one_port_is_one_prefix_and_all_ports_are_one() {
        assert_eq!(port_prefixes(443, 443), [(443, 16)]);
        assert_eq!(port_prefixes(0, 65535), [(0, 0)]);
        assert_eq!(port_prefixes(8000, 8099), [(8000, 10), (8064, 11), (8096, 14)]);
        assert_eq!(port_prefixes(1, 65534).len(), 30);
    }

    proptest! {
        #[test]
        fn the_prefixes_of_a_range_cover_it_and_nothing_else(a: u16, b: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let prefixes = port_prefixes(first, last);
            prop_assert!(prefixes.len() <= 30);
            prop_assert!(prefixes.iter().all(|(port, bits)| u64::from(*port) % (1 << (16 - bits)) == 0), "aligned");
            prop_assert_eq!(covered(&prefixes), (u32::from(first)..=u32::from(last)).collect::<Vec<_>>());
        }
    }
}
