//! STAGES and STAGES_XDP: the programs that TC programs, and the XDP program, hand packets on to.
//!
//! Within one ABI any build's program hands on to any other build's, so the rows change under running programs, one
//! after the other.

use std::path::Path;

use aya::{
    maps::{Map, MapData, ProgramArray},
    programs::{ProgramError, ProgramFd, ProgramInfo, SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use netpath_common::maps::{MapShape, shape, stage};

use super::{DatapathError, Root, syscall};

/// Each map of programs, and what its rows have in them.
pub(super) const ALL: [(MapShape, &[(u32, &str)]); 2] =
    [(shape::STAGES, &stage::PROGRAMS), (shape::STAGES_XDP, &stage::XDP_PROGRAMS)];

/// The names of all programs in them.
pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    ALL.into_iter().flat_map(|(_, programs)| programs.iter().map(|(_, name)| *name))
}

/// Makes the rows of both maps those of the programs that are pinned in `folder`; those that are right are left alone.
pub(super) fn set(root: &Root, folder: &Path) -> Result<(), DatapathError> {
    for (map, programs) in ALL {
        let fail = |e| DatapathError::failed(format!("open map {}", map.name), e);
        let data = MapData::from_pin(root.map(map.name)).map_err(fail)?;
        let mut stages = ProgramArray::try_from(Map::from_map_data(data).map_err(fail)?).map_err(fail)?;
        for (row, name) in programs {
            let path = folder.join(name);
            let failed = |what| move |e| DatapathError::failed(format!("{what} program {name}"), e);
            let pinned = ProgramInfo::from_pin(&path).map_err(failed("open"))?.id();
            if program_at(root, &map, *row)? == Some(pinned) {
                continue;
            }
            let fd = open(&path, map.name == shape::STAGES_XDP.name).map_err(failed("open"))?;
            let put = format!("put program {name} into {}", map.name);
            stages.set(*row, &fd, 0).map_err(|e| DatapathError::failed(put, e))?;
            tracing::debug!(name, id = pinned, "stage set");
        }
    }
    Ok(())
}

fn open(path: &Path, is_xdp: bool) -> Result<ProgramFd, ProgramError> {
    let fd = if is_xdp {
        Xdp::from_pin(path, XdpAttachType::Interface)?.fd()?.try_clone()
    } else {
        SchedClassifier::from_pin(path)?.fd()?.try_clone()
    };
    Ok(fd?)
}

/// The id of the program in a row of STAGES or STAGES_XDP.
///
/// # Errors
/// When the kernel refuses.
pub fn program_at(root: &Root, map: &MapShape, row: u32) -> Result<Option<u32>, DatapathError> {
    let data = MapData::from_pin(root.map(map.name))
        .map_err(|e| DatapathError::failed(format!("open map {}", map.name), e))?;
    syscall::lookup::<u32, u32>(&data, &row).map_err(|e| DatapathError::failed(format!("read map {}", map.name), e))
}
