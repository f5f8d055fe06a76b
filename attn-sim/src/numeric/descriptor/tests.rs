//! Descriptors against tiles that are written to memory by other means: element by element, as kernels and tensor copies do.

use super::*;

/// Shared memory as 16-bit words; the word of an element of a tile is its number.
struct Memory(Vec<u16>);

impl Memory {
    fn new() -> Memory {
        Memory(vec![u16::MAX; 128 * 1024])
    }

    fn write(&mut self, address: u32, value: u16) {
        let word = &mut self.0[address as usize / 2];
        assert_eq!(*word, u16::MAX, "two elements at {address:#x}");
        *word = value;
    }

    /// Writes a rows x columns tile with rows in memory along columns, in chunks of `span / 2` columns, each chunk swizzled:
    /// the layout that a tensor copy with a box as wide as the span produces. Piece `p` of row `r` goes to `p ^ (r % ...)`.
    fn write_chunked(&mut self, base: u32, rows: u32, columns: u32, span: u32) {
        let pieces = span / 16;
        for row in 0..rows {
            for column in 0..columns {
                let chunk = column / (span / 2);
                let piece = column % (span / 2) / 8;
                // Rows of 128 bytes share one value of the pattern: 1, 2 or 4 rows of the tile.
                let pattern = (row * span / 128) % pieces;
                let address = base + chunk * rows * span + row * span + (piece ^ pattern) * 16 + column % 8 * 2;
                self.write(address, tile_value(row, column));
            }
        }
    }

    /// Gathers an operand through its pieces: [row][depth].
    fn gather(&self, descriptor: &Descriptor, major: Major, extent: u32) -> Vec<[u16; 16]> {
        let mut operand = vec![[u16::MAX; 16]; extent as usize];
        for piece in descriptor.pieces(major, extent).unwrap() {
            for i in 0..8 {
                let (row, depth) = match major {
                    Major::Depth => (piece.row, piece.depth + i),
                    Major::Rows => (piece.row + i, piece.depth),
                };
                let to = &mut operand[row as usize][depth as usize];
                assert_eq!(*to, u16::MAX, "({row}, {depth}) twice");
                *to = self.0[(piece.address / 2 + i) as usize];
            }
        }
        operand
    }
}

fn tile_value(row: u32, column: u32) -> u16 {
    (row * 256 + column) as u16
}

/// As kernels encode it.
fn encode(address: u32, leading: u32, stride: u32, mode: u64) -> u64 {
    u64::from((address & 0x3FFFF) >> 4) | u64::from(leading >> 4) << 16 | u64::from(stride >> 4) << 32 | mode << 62
}

#[test]
fn fields_are_taken_apart() {
    let modes = [(0, Swizzle::None), (1, Swizzle::Bytes128), (2, Swizzle::Bytes64), (3, Swizzle::Bytes32)];
    for (mode, swizzle) in modes {
        let expected = Descriptor { start: 0x38420, leading: 16384, stride: 1024, swizzle };
        assert_eq!(Descriptor::decode(encode(0x38420, 16384, 1024, mode)), Ok(expected));
    }
    let largest = Descriptor { start: 0x3FFF0, leading: 0x3FFF0, stride: 0x3FFF0, swizzle: Swizzle::None };
    assert_eq!(Descriptor::decode(encode(0x3FFF0, 0x3FFF0, 0x3FFF0, 0)), Ok(largest));
}

#[test]
fn every_reserved_bit_and_the_base_offset_are_refused() {
    let good = encode(0x1000, 16, 1024, 1);
    for bit in [14, 15, 30, 31, 46, 47, 48].into_iter().chain(52..62) {
        let descriptor = good | 1 << bit;
        assert_eq!(Descriptor::decode(descriptor), Err(DescriptorError::ReservedBits { descriptor, bits: 1 << bit }));
    }
    for base_offset in 1..8 {
        let error = Descriptor::decode(good | u64::from(base_offset) << 49);
        assert_eq!(error, Err(DescriptorError::BaseOffset(base_offset)));
    }
}

#[test]
fn swizzled_tiles_serve_both_majors() {
    // (columns of the tile, mode, span): heads of 128 and 64 take 128-byte chunks, 96 takes 64-byte ones, 80 and 48 32-byte ones.
    for (columns, mode, span) in [(128, 1, 128), (64, 1, 128), (192, 1, 128), (96, 2, 64), (80, 3, 32), (48, 3, 32)] {
        for rows in [64, 128, 176] {
            let base = 4 * 1024;
            let mut memory = Memory::new();
            memory.write_chunked(base, rows, columns, span);
            let chunk = rows * span;

            // Contracted along columns: 16 columns a step, span / 32 steps in a chunk.
            for step in 0..columns / 16 {
                let start = base + step * 32 / span * chunk + step * 32 % span;
                let descriptor = Descriptor::decode(encode(start, 16, 8 * span, mode)).unwrap();
                let operand = memory.gather(&descriptor, Major::Depth, rows);
                for (row, depths) in operand.iter().enumerate() {
                    for (depth, &value) in depths.iter().enumerate() {
                        assert_eq!(value, tile_value(row as u32, 16 * step + depth as u32), "{columns} {row} {depth}");
                    }
                }
            }

            // Contracted along rows: 16 rows a step.
            for step in 0..rows / 16 {
                let start = base + step * 16 * span;
                let descriptor = Descriptor::decode(encode(start, chunk, 8 * span, mode)).unwrap();
                let operand = memory.gather(&descriptor, Major::Rows, columns);
                for (column, depths) in operand.iter().enumerate() {
                    for (depth, &value) in depths.iter().enumerate() {
                        assert_eq!(
                            value,
                            tile_value(16 * step + depth as u32, column as u32),
                            "{columns} {column} {depth}"
                        );
                    }
                }
            }
        }
    }
}

/// The numbers of a forward kernel that is right on an H100: head_dim 128, tiles of 128 rows in two 64-column chunks.
#[test]
fn descriptors_of_a_forward_kernel() {
    const CHUNK: u32 = 128 * 128;
    let tile = |address: u32| encode(address, CHUNK, 1024, 1);
    let mut memory = Memory::new();
    memory.write_chunked(0, 128, 128, 128);
    // Queries of the second warpgroup: rows 64 to 127, eight steps along the head.
    for step in 0..8u64 {
        let descriptor = tile(64 * 128) + step % 4 * 2 + step / 4 * u64::from(CHUNK >> 4);
        let operand = memory.gather(&Descriptor::decode(descriptor).unwrap(), Major::Depth, 64);
        for (row, depths) in operand.iter().enumerate() {
            let expected: Vec<u16> = (0..16).map(|d| tile_value(64 + row as u32, 16 * step as u32 + d)).collect();
            assert_eq!(depths[..], expected[..]);
        }
    }
    // Values, contracted along keys: eight steps of 2048 bytes, N = 128 spans both chunks.
    for step in 0..8u64 {
        let descriptor = tile(0) + step * (2048 >> 4);
        let operand = memory.gather(&Descriptor::decode(descriptor).unwrap(), Major::Rows, 128);
        for (column, depths) in operand.iter().enumerate() {
            let expected: Vec<u16> = (0..16).map(|d| tile_value(16 * step as u32 + d, column as u32)).collect();
            assert_eq!(depths[..], expected[..]);
        }
    }
    // A tile of 128 x 16 in 8 x 8 blocks: row kv at kv / 8 * 256 + kv % 8 * 16, its second half 128 bytes on.
    let base = 80 * 1024;
    let mut memory = Memory::new();
    for kv in 0..128 {
        let row = base + kv / 8 * 256 + kv % 8 * 16;
        for column in 0..8 {
            memory.write(row + 2 * column, tile_value(kv, column));
            memory.write(row + 128 + 2 * column, tile_value(kv, 8 + column));
        }
    }
    let descriptor = Descriptor::decode(encode(base, 128, 256, 0)).unwrap();
    for (row, depths) in memory.gather(&descriptor, Major::Depth, 128).iter().enumerate() {
        let expected: Vec<u16> = (0..16).map(|d| tile_value(row as u32, d)).collect();
        assert_eq!(depths[..], expected[..]);
    }
}

#[test]
fn unswizzled_blocks_with_rows_contiguous() {
    // 8 x 8 blocks, rows of a block (along N) contiguous; blocks of one depth 128 bytes apart, the two depths `leading` apart.
    let (base, leading, stride) = (2048, 128 * 16, 128);
    let mut memory = Memory::new();
    for block in 0..16 {
        for half in 0..2 {
            for depth in 0..8 {
                for row in 0..8 {
                    let address = base + half * leading + block * stride + depth * 16 + row * 2;
                    memory.write(address, tile_value(8 * block + row, 8 * half + depth));
                }
            }
        }
    }
    let descriptor = Descriptor::decode(encode(base, leading, stride, 0)).unwrap();
    for (row, depths) in memory.gather(&descriptor, Major::Rows, 128).iter().enumerate() {
        let expected: Vec<u16> = (0..16).map(|d| tile_value(row as u32, d)).collect();
        assert_eq!(depths[..], expected[..]);
    }
}

#[test]
fn starts_that_run_over_a_row_of_the_swizzle_are_refused() {
    let error = |start: u32, mode: u64, major: Major, extent: u32| {
        Descriptor::decode(encode(start, 4096, 1024, mode)).unwrap().pieces(major, extent).err()
    };
    let crosses = |start, at, span, bytes| Some(DescriptorError::CrossesRow { start, at, span, bytes });
    assert_eq!(error(96, 1, Major::Depth, 64), None);
    assert_eq!(error(112, 1, Major::Depth, 64), crosses(112, 112, 128, 32));
    assert_eq!(error(32, 2, Major::Depth, 64), None);
    assert_eq!(error(48, 2, Major::Depth, 64), crosses(48, 48, 64, 32));
    assert_eq!(error(16, 3, Major::Depth, 64), crosses(16, 16, 32, 32));
    assert_eq!(error(16, 0, Major::Depth, 64), None);
    assert_eq!(error(32, 1, Major::Rows, 64), crosses(32, 32, 128, 128));
    assert_eq!(error(32, 1, Major::Rows, 48), None);
    assert_eq!(error(16, 0, Major::Rows, 64), None);
}
