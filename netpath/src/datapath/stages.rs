//! STAGES: the programs that TC programs hand packets on to.
//!
//! Within one ABI any build's program hands on to any other build's, so the rows change under running programs, one
//! after the other.

use std::path::Path;

use aya::{
    maps::{Map, MapData, ProgramArray},
    programs::{ProgramInfo, SchedClassifier},
};
use netpath_common::maps::{shape, stage};

use super::{DatapathError, Root, syscall};

/// Makes the rows of STAGES those of the programs that are pinned in `folder`; those that are right are left alone.
pub(super) fn set(root: &Root, folder: &Path) -> Result<(), DatapathError> {
    let fail = |e| DatapathError::failed("open map STAGES", e);
    let data = MapData::from_pin(root.map(shape::STAGES.name)).map_err(fail)?;
    let mut stages = ProgramArray::try_from(Map::from_map_data(data).map_err(fail)?).map_err(fail)?;
    for (row, name) in stage::PROGRAMS {
        let path = folder.join(name);
        let failed = |what| move |e| DatapathError::failed(format!("{what} program {name}"), e);
        let pinned = ProgramInfo::from_pin(&path).map_err(failed("open"))?.id();
        if program_at(root, row)? == Some(pinned) {
            continue;
        }
        let program = SchedClassifier::from_pin(&path).map_err(failed("open"))?;
        let fd = program.fd().map_err(failed("open"))?;
        stages.set(row, fd, 0).map_err(|e| DatapathError::failed(format!("put program {name} into STAGES"), e))?;
        tracing::debug!(name, id = pinned, "stage set");
    }
    Ok(())
}

/// The id of the program in a row of STAGES.
///
/// # Errors
/// When the kernel refuses.
pub fn program_at(root: &Root, row: u32) -> Result<Option<u32>, DatapathError> {
    let fail = |e| DatapathError::failed("open map STAGES", e);
    let data = MapData::from_pin(root.map(shape::STAGES.name)).map_err(fail)?;
    syscall::lookup::<u32, u32>(&data, &row).map_err(|e| DatapathError::failed("read map STAGES", e))
}
