//! The Internet checksum (RFC 1071) and its incremental forms (RFC 1624).
