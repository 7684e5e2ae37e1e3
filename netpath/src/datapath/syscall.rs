//! The commands of bpf(2) that aya has no call for: reading many rows at once, and what a row of a program array is.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::{Pod, maps::MapData};
use netpath_common::maps::{MapKind, MapShape};
use rustix::io::Errno;

/// `BPF_MAP_CREATE`.
const CREATE: libc::c_int = 0;
/// `BPF_MAP_LOOKUP_ELEM`.
const LOOKUP: libc::c_int = 1;
/// `BPF_MAP_UPDATE_ELEM`.
const UPDATE: libc::c_int = 2;
/// `BPF_OBJ_GET`.
const OBJECT_GET: libc::c_int = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const OBJECT_INFO: libc::c_int = 15;
/// `BPF_MAP_LOOKUP_BATCH` (Linux 5.6).
const LOOKUP_BATCH: libc::c_int = 24;
/// `BPF_PROG_QUERY`.
const QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS` (Linux 6.6).
const TCX_INGRESS: u32 = 46;
/// As many programs as a device has at most (`BPF_MPROG_MAX`).
const PROGRAMS_MAX: usize = 64;
/// Rows that are asked for at a time.
const BATCH: usize = 4096;

/// The part of `union bpf_attr` that names one row.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that names a batch.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that asks for programs, which wants zeros behind it.
#[repr(C)]
#[derive(Default)]
struct Query {
    device: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    more: [u64; 4],
}

/// The ids of the programs that tcx runs on what a device receives, in their order. aya opens each of them by its id, which
/// takes more privilege and, for a thousand devices, more time than the rest of a plan.
pub(super) fn tcx_programs(device: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let (ids_at, count) = (ids.as_mut_ptr() as u64, ids.len() as u32);
    let mut attr = Query { device, kind: TCX_INGRESS, ids: ids_at, count, ..Query::default() };
    // SAFETY: there is room for as many ids as said, and it outlives the call.
    unsafe { bpf(QUERY, &mut attr) }?;
    Ok(ids.into_iter().take(attr.count as usize).collect())
}

/// The part of `union bpf_attr` that names a pin.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The beginning of `struct bpf_link_info` of a link on a device (Linux 5.9).
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    device: u32,
    more: [u32; 11],
}

/// The part of `union bpf_attr` that asks what an object is.
#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    info: u64,
}

/// The program of a pinned link, and the device that it is on, by its index: `None` once it is on none.
pub(super) fn link(pin: &Path) -> io::Result<(u32, Option<u32>)> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = Pin { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the path ends with a zero, and outlives the call; it answers a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJECT_GET, &raw mut attr, size_of::<Pin>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut info = LinkInfo::default();
    let len = size_of::<LinkInfo>() as u32;
    let mut attr = Info { fd: link.as_raw_fd() as u32, len, info: &raw mut info as u64 };
    // SAFETY: `info` is as large as said, and outlives the call.
    unsafe { bpf(OBJECT_INFO, &mut attr) }?;
    Ok((info.program, Some(info.device).filter(|index| *index != 0)))
}

/// One row; `None` where there is none.
pub(super) fn lookup<K: Pod, V: Pod>(map: &MapData, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::uninit();
    let mut attr = Element { map: fd(map), pad: 0, key: address(key), value: value.as_mut_ptr() as u64, flags: 0 };
    // SAFETY: key and value have the map's sizes, as their types' owners compared with its shape, and outlive the call.
    match unsafe { bpf(LOOKUP, &mut attr) } {
        // SAFETY: the kernel has written the whole value, and any bytes are one (`Pod`).
        Ok(()) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Walks a hash or an array by batches.
pub(super) struct Batches<'m, K, V> {
    map: &'m MapData,
    /// Values of a row: one, or one for each processor.
    each: usize,
    /// Where the kernel is: a bucket of a hash, an index of an array; `None` before the first batch.
    position: Option<u32>,
    is_done: bool,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<'m, K: Pod, V: Pod> Batches<'m, K, V> {
    pub(super) fn of(map: &'m MapData) -> Self {
        Self::from(map, None, BATCH)
    }

    /// From where another walk had come to, with so many rows at a time.
    pub(super) fn from(map: &'m MapData, position: Option<u32>, room: usize) -> Self {
        Self::with_values(map, position, room, 1)
    }

    /// The same of a map with a value for each of so many processors: a row's values lie one after the other. Their size is
    /// a multiple of eight bytes, as the kernel puts them.
    pub(super) fn per_cpu(map: &'m MapData, room: usize, cpus: usize) -> Self {
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        Self::with_values(map, None, room, cpus)
    }

    fn with_values(map: &'m MapData, position: Option<u32>, room: usize, each: usize) -> Self {
        let (keys, values) = (Vec::with_capacity(room), Vec::with_capacity(room * each));
        Self { map, each, position, is_done: false, keys, values }
    }

    /// Where the rows are that come next; `None` after the last.
    pub(super) fn position(&self) -> Option<u32> {
        self.position.filter(|_| !self.is_done)
    }

    /// The next rows; `None` after the last.
    pub(super) fn next(&mut self) -> io::Result<Option<(&[K], &[V])>> {
        while !self.is_done {
            match self.read() {
                // A bucket has more rows than there is room for.
                Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => {
                    let room = self.keys.capacity();
                    self.keys.reserve(room * 2);
                    self.values.reserve(room * 2 * self.each);
                }
                Err(error) => return Err(error),
                Ok(()) if self.keys.is_empty() => {}
                Ok(()) => return Ok(Some((&self.keys, &self.values))),
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> io::Result<()> {
        self.keys.clear();
        self.values.clear();
        let room = self.keys.capacity().min(self.values.capacity() / self.each);
        let mut to = 0_u32;
        let mut attr = Batch {
            from: self.position.as_ref().map_or(0, address),
            to: &raw mut to as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: room as u32,
            map: fd(self.map),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: keys and values have room for `count` rows of the map's sizes, as their types' owners compared with its
        // shape, and of as many values as it has; the position is four bytes for hashes and arrays; all outlive the call.
        let read = unsafe { bpf(LOOKUP_BATCH, &mut attr) };
        match read {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => self.is_done = true,
            read => read?,
        }
        self.position = Some(to);
        let count = (attr.count as usize).min(room);
        // SAFETY: the kernel has written `count` rows, also at the end, and any bytes are one (`Pod`).
        unsafe {
            self.keys.set_len(count);
            self.values.set_len(count * self.each);
        }
        Ok(())
    }
}

/// The sizes of a map's rows, for those who know no types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes of a key.
    pub(super) key: usize,
    /// Bytes of what is read and written of a row: of a map with a value per CPU, all of them, each filled up to words.
    pub(super) row: usize,
}

impl Sizes {
    /// Of a map with these sizes, whose rows have so many values.
    pub(super) fn new(key: u32, value: u32, values: usize) -> Self {
        let value = value as usize;
        Self { key: key as usize, row: if values == 1 { value } else { value.next_multiple_of(8) * values } }
    }
}

/// Calls `visit` with the bytes of every row of a hash or an array.
pub(super) fn visit<E: From<io::Error>>(
    map: &MapData,
    sizes: Sizes,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut room, mut position) = (BATCH.min((1 << 22) / sizes.row).max(1), None);
    loop {
        let (mut keys, mut values) = (vec![0_u8; room * sizes.key], vec![0_u8; room * sizes.row]);
        let mut next = 0_u32;
        let mut attr = Batch {
            from: position.as_ref().map_or(0, address),
            to: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map: fd(map),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: keys and values have room for `count` rows of the map's sizes; all outlive the call.
        let read = unsafe { bpf(LOOKUP_BATCH, &mut attr) };
        let is_last = match read.as_ref().map_err(io::Error::raw_os_error) {
            // A bucket has more rows than there is room for.
            Err(error) if error == Some(Errno::NOSPC.raw_os_error()) => {
                room *= 2;
                continue;
            }
            Err(error) if error == Some(Errno::NOENT.raw_os_error()) => true,
            _ => read.map(|()| false)?,
        };
        position = Some(next);
        let rows = keys.chunks_exact(sizes.key).zip(values.chunks_exact(sizes.row)).take(attr.count as usize);
        for (key, value) in rows {
            visit(key, value)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Copies every row of a hash or an array, of one value each, into an empty map of the same shape. Of an array, rows that
/// are all zero are left out.
pub(super) fn copy(from: &MapData, to: &MapData, shape: &MapShape) -> io::Result<()> {
    visit(from, Sizes::new(shape.key_size, shape.value_size, 1), |key, value| {
        if shape.kind != MapKind::Array || value.iter().any(|byte| *byte != 0) {
            put(to, key, value, Put::Any)?;
        }
        Ok(())
    })
}

/// Reads a row by its bytes, as many as there is room for in `value`; `false` where there is none.
pub(super) fn get(map: &MapData, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr =
        Element { map: fd(map), pad: 0, key: key.as_ptr() as u64, value: value.as_mut_ptr() as u64, flags: 0 };
    // SAFETY: key and value have the map's sizes, and outlive the call.
    match unsafe { bpf(LOOKUP, &mut attr) } {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Put {
    /// New ones and others (`BPF_ANY`).
    Any = 0,
    /// New ones only (`BPF_NOEXIST`).
    New = 1,
}

/// Writes a row, by its bytes.
pub(super) fn put(map: &MapData, key: &[u8], value: &[u8], which: Put) -> io::Result<()> {
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    let mut attr = Element { map: fd(map), pad: 0, key, value, flags: which as u64 };
    // SAFETY: key and value have the map's sizes, and outlive the call.
    unsafe { bpf(UPDATE, &mut attr) }
}

/// The part of `union bpf_attr` that says what a map shall be.
#[repr(C)]
#[derive(Default)]
struct Creation {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

/// Makes a map that nobody knows but the caller.
pub(super) fn create(name: &str, kind: u32, sizes: (u32, u32), capacity: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr =
        Creation { kind, key_size: sizes.0, value_size: sizes.1, max_entries: capacity, flags, ..Creation::default() };
    for (place, byte) in attr.name[..15].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    // SAFETY: the command takes these plain numbers and nothing they point to; it answers a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, CREATE, &raw mut attr, size_of::<Creation>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until every program that runs now has ended: a grace period.
pub(super) fn wait_for_programs() -> io::Result<()> {
    // `MEMBARRIER_CMD_GLOBAL` waits for one (`synchronize_rcu`, kernel/sched/membarrier.c); programs run within one.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes plain numbers.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn fd(map: &MapData) -> u32 {
    map.fd().as_fd().as_raw_fd() as u32
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}

/// # Safety
/// `attr` is what the command takes, and what it points to is as large as the kernel takes it to be.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<()> {
    // SAFETY: as the caller says.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
