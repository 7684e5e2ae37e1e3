//! Netlink messages as bytes: what requests are built of and what answers are read with.
//!
//! ```text
//! nlmsghdr (16) | family header (ifinfomsg, tcmsg, genlmsghdr, ...) | attribute | attribute | ...
//! attribute = length (2, with its header) | type (2) | payload | padding to 4
//! ```

/// Length of `struct nlmsghdr`.
pub(super) const HEADER_LEN: usize = 16;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the kernel answers with an error message of code 0 when it is done.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`: answer with every object.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: objects came or went while the kernel listed them, so that some may be missing.
pub(super) const INTERRUPTED: u16 = 0x10;
/// `NLM_F_REPLACE`: put the object in another one's place.
pub(super) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`: refuse when the object exists.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`: make the object when it is missing.
pub(super) const CREATE: u16 = 0x400;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the type without its two flag bits.
const TYPE_MASK: u16 = 0x3fff;

/// One request under construction.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Begins a message of type `kind` with `flags`, followed by the family's own header.
    pub(super) fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(family_header);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Appends one attribute.
    pub(super) fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        self.put(kind, payload);
        self
    }

    /// Appends a text attribute, terminated as the kernel wants it.
    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.attribute(kind, &payload)
    }

    /// Appends an attribute that holds the attributes added by `fill`.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        let mut message = fill(self);
        let len = attribute_len(message.bytes.len() - start);
        message.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        message
    }

    /// The finished message with its length and sequence number in place.
    pub(super) fn finish(&mut self, sequence: u32) -> &[u8] {
        let len = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }

    fn put(&mut self, kind: u16, payload: &[u8]) {
        self.bytes.extend_from_slice(&attribute_len(payload.len() + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The length field of an attribute; requests here are a few hundred bytes long, far from its 64 KiB.
fn attribute_len(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// One message of an answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// `nlmsg_type`.
    pub(super) kind: u16,
    /// What follows `nlmsghdr`.
    pub(super) payload: Vec<u8>,
}

impl Reply {
    /// The attributes that follow a family header of `len` bytes.
    pub(super) fn attributes(&self, len: usize) -> Attributes<'_> {
        Attributes(self.payload.get(len.next_multiple_of(4)..).unwrap_or_default())
    }
}

/// Splits one datagram into its messages as (type, flags, sequence, payload); a torn tail ends it.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let len = u32_at(datagram, 0)? as usize;
        let (kind, flags, sequence) = (u16_at(datagram, 4)?, u16_at(datagram, 6)?, u32_at(datagram, 8)?);
        let payload = datagram.get(HEADER_LEN..len)?;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, flags, sequence, payload))
    })
}

/// The attributes in a byte string, in order, as (type, payload).
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of that type.
    pub(super) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, payload)| (found == kind).then_some(payload))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// A host-order 16-bit number at `offset`.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// A host-order 32-bit number at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// A host-order 64-bit number at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
}

/// Text up to the terminating zero.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_as_it_was_built() {
        let bytes = Message::new(16, ACK, &[7; 16])
            .text(3, "tap0")
            .nest(18, |m| m.text(1, "vxlan").nest(2, |m| m.attribute(15, &4789u16.to_be_bytes())))
            .finish(9)
            .to_vec();

        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        let (kind, flags, sequence, payload) = all[0];
        assert_eq!((kind, flags & INTERRUPTED, sequence), (16, 0, 9));
        let reply = Reply { kind, payload: payload.to_vec() };
        assert_eq!(text_of(reply.attributes(16).find(3).unwrap()), "tap0");
        let info = Attributes(reply.attributes(16).find(18).unwrap());
        assert_eq!(text_of(info.find(1).unwrap()), "vxlan");
        assert_eq!(Attributes(info.find(2).unwrap()).find(15).unwrap(), [0x12, 0xb5]);
    }

    #[test]
    fn a_torn_or_lying_length_ends_the_reading() {
        assert_eq!(messages(&[200, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[40, 0, 1, 0, 5]).count(), 0);
        assert_eq!(Attributes(&[4, 0, 1, 0]).count(), 1);
    }
}
