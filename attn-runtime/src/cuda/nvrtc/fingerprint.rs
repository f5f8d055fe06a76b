//! What tells two builds of NVRTC apart, read from the file alone: compiling something to find out would cost more than
//! loading a cached kernel.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The linker's build id (a hash of the library's contents) where the file has one, else its length and time of change.
pub(crate) fn of_library(path: &Path) -> String {
    if let Some(id) = File::open(path).ok().and_then(build_id) {
        return format!("build-id {id}");
    }
    let metadata = std::fs::metadata(path).ok();
    let length = metadata.as_ref().map_or(0, std::fs::Metadata::len);
    let modified = metadata.and_then(|data| data.modified().ok()).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("length {length} modified {}", modified.map_or(0, |time| time.as_nanos()))
}

/// The `NT_GNU_BUILD_ID` note of a 64-bit little-endian ELF file, in hexadecimal.
fn build_id(mut file: impl Read + Seek) -> Option<String> {
    const NOTE_SEGMENT: u32 = 4;
    const BUILD_ID_NOTE: u32 = 3;
    let mut header = [0_u8; 64];
    file.read_exact(&mut header).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = u64_at(&header, 32)?;
    let entry_length = u64::from(u16_at(&header, 54)?);
    let entries = u64::from(u16_at(&header, 56)?);
    for index in 0..entries {
        let mut entry = [0_u8; 56];
        file.seek(SeekFrom::Start(table.checked_add(index.checked_mul(entry_length)?)?)).ok()?;
        file.read_exact(&mut entry).ok()?;
        if u32_at(&entry, 0)? != NOTE_SEGMENT {
            continue;
        }
        let length = usize::try_from(u64_at(&entry, 32)?).ok().filter(|length| *length <= 1 << 16)?;
        let mut notes = vec![0_u8; length];
        file.seek(SeekFrom::Start(u64_at(&entry, 8)?)).ok()?;
        file.read_exact(&mut notes).ok()?;
        let mut rest = notes.as_slice();
        while let (Some(name), Some(contents), Some(kind)) = (u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8)) {
            let start = 12 + (name as usize).next_multiple_of(4);
            let end = start.checked_add(contents as usize)?;
            if kind == BUILD_ID_NOTE && rest.get(12..16) == Some(b"GNU\0") {
                return Some(rest.get(start..end)?.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    None
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one note segment of two notes, the second of them the build id.
    fn elf() -> Vec<u8> {
        let mut file = vec![0_u8; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        let mut notes = Vec::new();
        for (name, kind, contents) in [(b"ABCDE\0\0\0".as_slice(), 1_u32, &[9_u8; 5][..]), (b"GNU\0", 3, &[0xab, 0x01])]
        {
            let name_length = if kind == 1 { 6_u32 } else { 4 };
            notes.extend(name_length.to_le_bytes());
            notes.extend(u32::try_from(contents.len()).unwrap().to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(name);
            notes.extend(contents);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        file[64..68].copy_from_slice(&4_u32.to_le_bytes());
        file[72..80].copy_from_slice(&120_u64.to_le_bytes());
        file[96..104].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        file.extend(notes);
        file
    }

    #[test]
    fn build_id_is_found_among_notes() {
        assert_eq!(build_id(std::io::Cursor::new(elf())).as_deref(), Some("ab01"));
    }

    #[test]
    fn damaged_files_have_none_and_never_panic() {
        let whole = elf();
        for length in 0..whole.len() - 4 {
            assert_eq!(build_id(std::io::Cursor::new(&whole[..length])), None, "cut at {length}");
        }
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] = 0xff;
            let _ = build_id(std::io::Cursor::new(damaged));
        }
    }

    #[test]
    fn other_files_are_told_apart_by_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libnvrtc.so");
        std::fs::write(&path, b"one").unwrap();
        let first = of_library(&path);
        std::fs::write(&path, b"three").unwrap();
        assert_ne!(first, of_library(&path));
    }
}
