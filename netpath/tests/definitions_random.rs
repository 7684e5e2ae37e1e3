//! Documents that nobody would write: whatever they are, there is an answer, and its places lie in the document.

use netpath::definitions::parse;
use proptest::prelude::*;

const ZONE: &str = include_str!("zone.yaml");

/// Parsing ends with a zone or with findings that point into the text.
fn is_answered(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse("random", text) {
        prop_assert!(!error.findings().is_empty());
        let lines = text.lines().count() as u32 + 1;
        for finding in error.findings() {
            prop_assert!((1..=lines).contains(&finding.at.line), "{finding} of {lines} lines");
            prop_assert!(finding.at.column >= 1 && !finding.problem.is_empty() && !finding.expected.is_empty());
        }
    }
    Ok(())
}

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "4095",
    "16777216",
    "99999999999999999999",
    "~",
    "null",
    "true",
    "untagged",
    "10.1.1.0/24",
    "10.1.1.1",
    "::",
    "fe80::1",
    "2001:db8::/64",
    "255.255.255.255",
    "0.0.0.0/0",
    "::/0",
    "02:00:00:00:00:00",
    "kvm1",
    "guest",
    "acme-web",
    "[]",
    "{}",
    "''",
    "&a b",
    "*a",
    "!x y",
    "200Mbps",
    "22-21",
    "0-65535",
    "\u{feff}",
    "ä",
    "|\n  x",
    "{a: b}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        is_answered(&text)?;
    }

    #[test]
    fn any_yaml_like_text_is_answered(text in "([ -~]|\n|: |- |\\{|\\[|\\]|\\}|\"|'|&|\\*|,|\t|#){0,300}") {
        is_answered(&text)?;
    }

    #[test]
    fn the_zone_with_values_exchanged_is_answered(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(WORDS)), 1..8),
    ) {
        let mut text = ZONE.to_owned();
        for (index, word) in edits {
            let values: Vec<usize> = text.match_indices(": ").map(|(at, colon)| at + colon.len()).collect();
            let start = values[index.index(values.len())];
            let end = text[start..].find([',', '}', '\n']).map_or(text.len(), |len| start + len);
            text.replace_range(start..end, word);
        }
        is_answered(&text)?;
    }

    #[test]
    fn the_zone_with_pieces_cut_and_moved_is_answered(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, any::<prop::sample::Index>()), 1..6),
    ) {
        let mut bytes = ZONE.as_bytes().to_vec();
        for (from, len, to) in cuts {
            let from = from.index(bytes.len());
            let piece: Vec<u8> = bytes.drain(from..(from + len).min(bytes.len())).collect();
            let to = to.index(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        is_answered(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn the_zone_cut_short_is_answered(end in 0..ZONE.len()) {
        is_answered(&ZONE[..end])?;
    }
}
