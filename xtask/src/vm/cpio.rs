//! The archive format of an initramfs: `newc`, see the kernel's `driver-api/early-userspace/buffer-format.rst`.

use std::io::{Result, Write};

/// File type bits of a mode, as in inode(7).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
/// Length of an entry's header in bytes: the magic and thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 6 + 13 * 8;

/// Writes entries one by one; [`Archive::finish`] writes the one that ends the archive.
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
}

/// What a header says besides the name and the size.
struct Kind {
    mode: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// A folder.
    pub(crate) fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, &Kind { mode: DIRECTORY | 0o755, device: (0, 0) }, &[])
    }

    /// A file that may be run.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.entry(name, &Kind { mode: REGULAR | 0o755, device: (0, 0) }, content)
    }

    /// A character device.
    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(name, &Kind { mode: CHARACTER_DEVICE | 0o600, device: (major, minor) }, &[])
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", &Kind { mode: 0, device: (0, 0) }, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, kind: &Kind, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(std::io::Error::other)?;
        let (major, minor) = kind.device;
        // inode, mode, uid, gid, links, mtime, size, device of the file, device it stands for, name size, no checksum
        let fields = [self.inode, kind.mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(HEADER + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Every part begins at a multiple of four bytes.
    fn pad(&mut self, written: usize) -> Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, HEADER};

    #[test]
    fn names_and_contents_are_padded_to_four_bytes() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("init", b"abcde").expect("memory takes it");
        archive.finish().expect("memory takes it");
        assert!(bytes.starts_with(b"07070100000001000081ed"));
        assert_eq!(&bytes[HEADER..HEADER + 6], b"init\0\0");
        assert_eq!(&bytes[HEADER + 6..HEADER + 14], b"abcde\0\0\0");
        assert_eq!(bytes.len() % 4, 0);
    }
}
