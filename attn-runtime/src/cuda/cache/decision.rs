//! Decisions on disk: which of several kernels was the fastest, with the times.
//!
//! A decision is the answer to a question, which is everything that it depends on; the question's hash names the entry,
//! `<root>/v1/<first two digits>/<hash>.attnd`:
//!
//! ```text
//! 0   magic "ATTNDCSN"        8
//! 8   format version          u32
//! 12  number of kernels       u32
//! 16  the chosen one          u32
//! 20  reserved, zero          4
//! 24  the question's hash     32
//! 56  blake3                  32   of bytes 0..56 and of all that follows the header
//! 88  milliseconds of each kernel, f64; NaN where it has none
//! ```
//! Integers and floats are little-endian. As with kernels, an entry is accepted only if every byte is accounted for.

use super::entry::checksum;
use super::key::CompilerIdentity;

/// Separates these hashes from any other use of the hash function, and versions questions and how they are answered.
const DOMAIN: &str = "attn-decision-v1";
const MAGIC: &[u8; 8] = b"ATTNDCSN";
const FORMAT: u32 = 1;
const CHECKED: usize = 56;
const HEADER: usize = 88;

/// All that a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question([u8; 32]);

impl Question {
    /// A question by its parts, in order; two lists that differ in any part are two questions.
    pub fn new(compiler: &CompilerIdentity, parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let CompilerIdentity { name, version, fingerprint } = compiler;
        for text in [DOMAIN, name, version, fingerprint].iter().chain(parts) {
            // lengths before texts: no two lists are the same bytes
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Its name on disk.
    pub(crate) fn name(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

/// The answer: what was measured of each kernel, and which was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The number of the chosen kernel, which has a time.
    pub chosen: usize,
    /// Milliseconds of each kernel; none where it did not run.
    pub milliseconds: Vec<Option<f64>>,
}

/// The bytes of an entry.
pub(crate) fn encode(question: &Question, decision: &Decision) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 8 * decision.milliseconds.len());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend((decision.milliseconds.len() as u32).to_le_bytes());
    bytes.extend((decision.chosen as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(question.0);
    bytes.resize(HEADER, 0);
    for milliseconds in &decision.milliseconds {
        bytes.extend(milliseconds.unwrap_or(f64::NAN).to_le_bytes());
    }
    let checksum = checksum(&bytes[..CHECKED], &bytes[HEADER..]);
    bytes[CHECKED..HEADER].copy_from_slice(&checksum);
    bytes
}

/// Reads the entry of a question; none where the bytes are not one, whole.
pub(crate) fn decode(bytes: &[u8], question: &Question) -> Option<Decision> {
    let (header, times) = bytes.split_at_checked(HEADER)?;
    let u32_at = |offset: usize| u32::from_le_bytes([0, 1, 2, 3].map(|index| header[offset + index]));
    let is_entry = header.starts_with(MAGIC) && u32_at(8) == FORMAT && header[24..CHECKED] == question.0;
    if !is_entry || checksum(&header[..CHECKED], times) != header[CHECKED..] {
        return None;
    }
    let (times, []) = times.as_chunks::<8>() else { return None };
    let milliseconds: Vec<Option<f64>> = times
        .iter()
        .map(|bytes| Some(f64::from_le_bytes(*bytes)).filter(|time| time.is_finite() && *time > 0.0))
        .collect();
    let chosen = u32_at(16) as usize;
    let is_whole = milliseconds.len() == u32_at(12) as usize && milliseconds.get(chosen)?.is_some();
    is_whole.then_some(Decision { chosen, milliseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(version: &str) -> CompilerIdentity {
        CompilerIdentity { name: "c".into(), version: version.into(), fingerprint: "f".into() }
    }

    fn question(parts: &[&str]) -> Question {
        Question::new(&compiler("1"), parts)
    }

    fn decision() -> Decision {
        Decision { chosen: 2, milliseconds: vec![Some(0.5), None, Some(0.25)] }
    }

    #[test]
    fn what_is_written_is_read() {
        let asked = question(&["gpu", "source"]);
        let bytes = encode(&asked, &decision());
        assert_eq!(decode(&bytes, &asked), Some(decision()));
        assert_eq!(decode(&bytes, &question(&["another gpu", "source"])), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let asked = question(&["gpu"]);
        let bytes = encode(&asked, &decision());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged, &asked), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], &asked), None, "cut at {length}");
        }
        assert_eq!(decode(&[&bytes[..], &[0; 8]].concat(), &asked), None);
    }

    /// A checksum makes no sense of nonsense.
    #[test]
    fn a_choice_without_a_time_is_none() {
        let asked = question(&["gpu"]);
        for chosen in [1, 3] {
            assert_eq!(decode(&encode(&asked, &Decision { chosen, ..decision() }), &asked), None);
        }
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let questions = [
            question(&["gpu", "1", "source"]),
            question(&["other gpu", "1", "source"]),
            question(&["gpu", "1s", "ource"]),
            question(&["gpu", "source", "1"]),
            question(&["gpu", "1", "source", ""]),
            Question::new(&compiler("2"), &["gpu", "1", "source"]),
        ];
        for (at, asked) in questions.iter().enumerate() {
            assert!(!questions[..at].contains(asked), "{at}");
        }
    }
}
