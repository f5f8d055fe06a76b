//! The bytes of an entry on disk.
//!
//! ```text
//! 0   magic "ATTNKRNL"        8
//! 8   format version          u32
//! 12  header length (80)      u32
//! 16  encoding length         u64
//! 24  cubin length            u64
//! 32  log length              u64
//! 40  reserved, zero          8
//! 48  blake3                  32   of bytes 0..48 and of all that follows the header
//! 80  the request's encoding, the cubin (raw, for cuobjdump), the log
//! ```
//! Integers are little-endian. Reading accepts an entry only if every byte is accounted for, the checksum holds, and the
//! encoding equals that of the request at hand, so that a file renamed over another is found out too.

use super::key::Identified;
use crate::cuda::nvrtc::Compilation;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 80;

const MAGIC: &[u8; 8] = b"ATTNKRNL";
const FORMAT: u32 = 1;
const CHECKED: usize = 48;

/// Why an entry cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryError {
    /// Shorter or longer than it says.
    #[error("its length is not what its header says")]
    Length,
    /// Not an entry, or one of another format.
    #[error("it is no entry of this format")]
    Format,
    /// Changed after it was written.
    #[error("its checksum is wrong")]
    Checksum,
    /// Of another request.
    #[error("it belongs to another request")]
    Request,
}

/// The bytes of an entry.
pub(crate) fn encode(identified: &Identified, compilation: &Compilation) -> Vec<u8> {
    let parts = [identified.encoding.as_slice(), &compilation.cubin, compilation.log.as_bytes()];
    let mut bytes = Vec::with_capacity(HEADER + parts.iter().map(|part| part.len()).sum::<usize>());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend((HEADER as u32).to_le_bytes());
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
    }
    bytes.resize(HEADER, 0);
    for part in parts {
        bytes.extend(part);
    }
    let checksum = checksum(&bytes[..CHECKED], &bytes[HEADER..]);
    bytes[CHECKED..HEADER].copy_from_slice(&checksum);
    bytes
}

/// Reads an entry of this request.
pub(crate) fn decode(bytes: &[u8], identified: &Identified) -> Result<Compilation, EntryError> {
    if bytes.len() < HEADER {
        return Err(EntryError::Length);
    }
    let u32_at = |offset: usize| u32::from_le_bytes([0, 1, 2, 3].map(|index| bytes[offset + index]));
    if !bytes.starts_with(MAGIC) || u32_at(8) != FORMAT || u32_at(12) != HEADER as u32 {
        return Err(EntryError::Format);
    }
    let mut rest = &bytes[HEADER..];
    let mut part = |offset: usize| {
        let length = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| bytes[offset + index]));
        let length = usize::try_from(length).map_err(|_| EntryError::Length)?;
        let (taken, after) = rest.split_at_checked(length).ok_or(EntryError::Length)?;
        rest = after;
        Ok(taken)
    };
    let (encoding, cubin, log) = (part(16)?, part(24)?, part(32)?);
    if !rest.is_empty() {
        return Err(EntryError::Length);
    }
    if checksum(&bytes[..CHECKED], &bytes[HEADER..]) != bytes[CHECKED..HEADER] {
        return Err(EntryError::Checksum);
    }
    if encoding != identified.encoding {
        return Err(EntryError::Request);
    }
    let log = std::str::from_utf8(log).map_err(|_| EntryError::Format)?;
    Ok(Compilation { cubin: cubin.to_vec(), log: log.to_owned() })
}

/// The checksum of what stands before it and behind it.
pub(super) fn checksum(before: &[u8], behind: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(behind);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cuda::cache::key::{CompilerIdentity, KernelRequest};

    fn identified(source: &str) -> Identified {
        let compiler = CompilerIdentity { name: "c".into(), version: "1".into(), fingerprint: "f".into() };
        Identified::new(&KernelRequest::new(source, "k.cu", "sm_80"), &compiler)
    }

    fn compilation() -> Compilation {
        Compilation { cubin: (0..=255).collect(), log: "Used 8 registers".into() }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&identified("s"), &compilation());
        assert_eq!(decode(&bytes, &identified("s")), Ok(compilation()));
        assert_eq!(decode(&bytes, &identified("t")), Err(EntryError::Request));
    }

    #[test]
    fn an_entry_cut_anywhere_is_refused() {
        let bytes = encode(&identified("s"), &compilation());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], &identified("s")).is_err(), "cut at {length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(decode(&longer, &identified("s")), Err(EntryError::Length));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&identified("s"), &compilation());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, &identified("s")).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), dress in any::<bool>()) {
            if dress && bytes.len() > 16 {
                bytes[..16].copy_from_slice(&encode(&identified("s"), &compilation())[..16]);
            }
            prop_assert!(decode(&bytes, &identified("s")).is_err());
        }
    }
}
