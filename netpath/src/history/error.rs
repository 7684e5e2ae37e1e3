//! What can go wrong with the history.

use std::{io, path::PathBuf};

use super::revision::Damage;
use crate::datapath::DatapathError;

/// Why the history cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be written.
    #[error("the history in {folder} cannot be written; make room there, or name another folder with --state-dir")]
    Unwritable {
        /// The instance's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written, and it was said that it must be.
    #[error(
        "nothing was touched: the history in {folder} cannot be written; make room there, name another folder with \
         --state-dir, or leave out --require-history and --confirm-within"
    )]
    Required {
        /// The instance's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has been writing to it for too long.
    #[error(transparent)]
    Locked(Box<DatapathError>),
    /// It cannot be read.
    #[error("the history in {folder} cannot be read")]
    Unreadable {
        /// The instance's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such revision.
    #[error("there is no revision {number} in {folder}; `netpath history` lists those that there are")]
    NoRevision {
        /// Its number.
        number: u64,
        /// The instance's folder.
        folder: PathBuf,
    },
    /// The revision's file is not what was written.
    #[error("revision {number} is damaged: {damage} ({file}); choose another one from `netpath history`")]
    Damaged {
        /// Its number.
        number: u64,
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// There is only one.
    #[error(
        "the history in {folder} has no revision before the one in force, so there is nothing to roll back to; \
         `netpath detach` takes off what is applied"
    )]
    NothingBefore {
        /// The instance's folder.
        folder: PathBuf,
    },
    /// One that has to be confirmed is in force.
    #[error(
        "nothing was touched: revision {revision} awaits confirmation {until}; keep it with `netpath confirm`, or take it \
         back now with `netpath rollback`"
    )]
    Awaiting {
        /// What was applied.
        revision: u64,
        /// Until when, in words.
        until: String,
    },
    /// Nothing is to be confirmed.
    #[error("no revision awaits confirmation under {root}; `netpath history` says what became of the last ones")]
    NothingAwaited {
        /// The pin root.
        root: PathBuf,
    },
    /// What is in force is not known, so that it could not be restored.
    #[error(
        "nothing was touched: the history in {folder} does not have what is in force, so it could not be restored; \
         apply what is in force once without --confirm-within"
    )]
    UnknownBefore {
        /// The instance's folder.
        folder: PathBuf,
    },
    /// The process that waits for the confirmation cannot do so.
    #[error("nothing was touched: there is no process to wait for the confirmation: {said}")]
    NoWatch {
        /// What it said, or the kernel.
        said: String,
    },
}
