//! What the programs of a build for debugging say (feature `log`), as lines of the agent's own log at level `debug`.

use std::{path::PathBuf, time::Duration};

use aya_log::EbpfLogger;
use netpath_common::maps::{shape, stage};
use tokio::time::timeout;

use super::readable;
use crate::datapath::{Root, program_at};

/// How often is looked for programs of another build.
const LOOK: Duration = Duration::from_secs(1);

/// Tells for ever. Programs that say nothing are no error: another build's may be in force.
pub(super) async fn tell(root: PathBuf) {
    let (mut program, mut lines) = (None, None);
    loop {
        let found =
            Root::open(&root).and_then(|root| program_at(&root, &shape::STAGES, stage::GATEWAY)).unwrap_or_default();
        if found != program {
            program = found;
            lines =
                found.and_then(|id| EbpfLogger::init_from_id(id).ok()).and_then(|ring| readable::register(ring).ok());
        }
        let Some(ring) = &mut lines else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        if let Ok(Ok(mut ready)) = timeout(LOOK, ring.readable_mut()).await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}
