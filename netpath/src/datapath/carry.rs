//! Has the data path add to what it counts, which it does without losing what is counted at the same time.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netpath_common::{
    carry::{self, ROWS_MAX, Row},
    maps::{MapShape, shape},
};

use super::{DatapathError, Programs, reap::ETHERNET};

/// The program that adds: attached nowhere.
pub(super) const CARRY: &str = "carry";

/// The program that adds to counters.
#[derive(Debug)]
pub(super) struct Carrier {
    program: SchedClassifier,
}

impl Carrier {
    /// This build's.
    pub(super) fn open(programs: &Programs) -> Result<Self, DatapathError> {
        Ok(Self { program: programs.unattached(CARRY)? })
    }

    /// Adds to rows of a map.
    pub(super) fn add(&self, shape: &MapShape, rows: &[Row]) -> Result<(), DatapathError> {
        let Some(map) = number(shape) else { return Ok(()) };
        for rows in rows.chunks(ROWS_MAX) {
            let frame = frame(map, rows);
            let options = TestRunOptions { data_in: Some(&frame), ..Default::default() };
            let run = self.program.test_run(options).map_err(|e| DatapathError::failed("run program carry", e))?;
            if (run.return_value as usize) < rows.len() {
                let missing = rows.len() - run.return_value as usize;
                tracing::warn!("{missing} rows of map {} have no room, and what they count is lost", shape.name);
            }
        }
        Ok(())
    }
}

/// What the program knows a map by.
fn number(shape: &MapShape) -> Option<u8> {
    const NUMBERS: [(&MapShape, u8); 5] = [
        (&shape::COUNTERS, carry::COUNTERS),
        (&shape::PUBLIC_COUNTERS, carry::PUBLIC_COUNTERS),
        (&shape::METER_EVENTS, carry::METER_EVENTS),
        (&shape::DROPS, carry::DROPS),
        (&shape::GATEWAY_STATE, carry::GATEWAY_STATE),
    ];
    NUMBERS.iter().find(|(known, _)| known.name == shape.name).map(|(_, number)| *number)
}

fn frame(map: u8, rows: &[Row]) -> Vec<u8> {
    let mut frame = ETHERNET.to_vec();
    frame.extend([map, rows.len() as u8]);
    frame.extend_from_slice(bytemuck::cast_slice(rows));
    frame
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{self, Role};

    use super::*;

    #[test]
    fn every_map_that_is_counted_in_has_a_number_and_fits_a_row() {
        for shape in maps::ALL.iter().filter(|shape| shape.role == Role::Counts) {
            assert!(number(shape).is_some(), "{}", shape.name);
            assert!(shape.value_size as usize <= carry::WORDS * 8 && shape.key_size <= 8, "{}", shape.name);
        }
    }

    #[test]
    fn a_frame_has_its_rows_after_its_head() {
        let row = Row { key: [7, 0], words: [1, 2, 3, 4, 5, 6, 7] };
        let frame = frame(carry::DROPS, &[row, row]);
        assert_eq!(frame.len(), carry::HEAD_LEN + 2 * size_of::<Row>());
        assert_eq!(frame[12..16], [0x88, 0xb5, carry::DROPS, 2]);
        assert_eq!(frame[16..20], 7_u32.to_ne_bytes());
    }
}
