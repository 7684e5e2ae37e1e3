//! Faults of the disk: full, and files that are read while they are written.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    time::Duration,
};

use super::{Cost, lab::Lab, processes::at_random};
use crate::{
    agent::{Agent, until},
    packet::mutate::Random,
};

/// For how long a document is half written at most: longer than files have to be quiet for an agent.
const HALF_WRITTEN: Duration = Duration::from_millis(400);

/// What agents follow is truncated and written in pieces, again and again.
pub(super) fn definitions_torn(lab: &Lab, random: &mut Random) -> Cost {
    lab.follow(&lab.whole);
    let agent = Agent::in_force(&lab.netpath, &lab.followed);
    for _ in 0..=random.below(3) {
        let text = fs::read(lab.either(random)).expect("the document is there");
        let mut file = File::create(&lab.followed).expect("the scratch folder is writable");
        // Where a NIC ends, what was written until then is a document too: without the rest of the NICs.
        let ends: Vec<_> = (0..text.len()).filter(|at| text[..*at].ends_with(b"}\n")).collect();
        let cut = if random.below(2) == 0 { *random.pick(&ends) } else { random.below(text.len()) };
        file.write_all(&text[..cut]).expect("the scratch folder is writable");
        at_random(random, HALF_WRITTEN);
        file.write_all(&text[cut..]).expect("the scratch folder is writable");
    }
    until("what was written last is in force", || lab.netpath.is_converged(&lab.followed));
    assert!(agent.end().success());
    Cost::Nothing
}

/// Nothing can be written where the history is: what is applied comes into force all the same.
pub(super) fn disk_full(lab: &Lab, random: &mut Random) -> Cost {
    let filler = lab.filler();
    fill(&mut File::create(&filler).expect("there is room for the beginning of a file"));
    if random.below(2) == 0 {
        let applied = lab.netpath.apply(&lab.fewer);
        assert!(applied.stderr.contains("history"), "nothing was said of the history: {}", applied.stderr);
    } else {
        lab.follow(&lab.fewer);
        let agent = Agent::start(&lab.netpath, &lab.followed);
        until("it is in force", || lab.netpath.is_converged(&lab.fewer));
        assert!(agent.end().success());
    }
    fs::remove_file(&filler).expect("the filler is there");
    Cost::Nothing
}

/// Writes until there is no room, not even for a byte.
fn fill(file: &mut File) {
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![0; size];
        loop {
            match file.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
    }
}
