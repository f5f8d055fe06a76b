//! Tensor maps: what is refused, and boxes against copies made element by element.

use super::*;

fn map(extents: &[u64], strides: &[u64], box_extents: &[u32], swizzle: Swizzle) -> Result<TensorMap, TensorMapError> {
    TensorMap::new(ElementType::Bf16, 4096, extents, strides, box_extents, swizzle)
}

#[test]
fn good_maps_are_accepted() {
    assert!(map(&[128, 333, 4, 2], &[1024, 256, 340_992], &[64, 128, 1, 1], Swizzle::Bytes128).is_ok());
    assert!(map(&[96, 7], &[192], &[32, 256], Swizzle::Bytes64).is_ok());
    assert!(map(&[80, 7], &[160], &[16, 8], Swizzle::Bytes32).is_ok());
    assert!(map(&[8], &[], &[256], Swizzle::None).is_ok());
    assert!(map(&[8, 4, 1, 9, 1 << 32], &[16, 0, 16, (1 << 40) - 16], &[8, 1, 1, 1, 1], Swizzle::None).is_err());
    assert!(map(&[8, 4, 1, 9, 1 << 20], &[16, 0, 16, (1 << 40) - 16], &[8, 1, 1, 1, 1], Swizzle::None).is_ok());
}

#[test]
fn each_requirement_is_checked() {
    use TensorMapError as E;
    let plain = Swizzle::None;
    assert_eq!(map(&[], &[], &[], plain), Err(E::Rank(0)));
    assert_eq!(map(&[8; 6], &[16; 5], &[8; 6], plain), Err(E::Rank(6)));
    assert_eq!(map(&[8, 8], &[], &[8, 8], plain), Err(E::Lengths { rank: 2, strides: 0, box_extents: 2 }));
    assert_eq!(map(&[8, 8], &[16], &[8], plain), Err(E::Lengths { rank: 2, strides: 1, box_extents: 1 }));
    for address in [4097, 4100, 4104] {
        let error = TensorMap::new(ElementType::F32, address, &[8], &[], &[8], plain);
        assert_eq!(error, Err(E::Address(address)));
    }
    for extent in [0, (1 << 32) + 1] {
        assert_eq!(map(&[8, extent], &[16], &[8, 8], plain), Err(E::Extent { axis: 1, extent }));
        assert_eq!(map(&[extent, 8], &[16], &[8, 8], plain), Err(E::Extent { axis: 0, extent }));
    }
    for stride in [8, 1000, 1 << 40] {
        assert_eq!(map(&[8, 8, 8], &[16, stride], &[8; 3], plain), Err(E::Stride { axis: 2, stride }));
    }
    assert_eq!(map(&[8, 1 << 32], &[1 << 39], &[8, 8], plain), Err(E::Footprint));
    for extent in [0, 257] {
        assert_eq!(map(&[8, 8], &[16], &[8, extent], plain), Err(E::BoxExtent { axis: 1, extent }));
    }
    assert_eq!(map(&[8, 8], &[16], &[12, 8], plain), Err(E::InnerBoxBytes(24)));
    let exceeds = |span| Err(E::InnerBoxExceedsSwizzle { bytes: 256, span });
    let narrower = |span| Err(E::InnerBoxNarrowerThanSwizzle { bytes: 16, span });
    for (swizzle, span) in [(Swizzle::Bytes32, 32), (Swizzle::Bytes64, 64), (Swizzle::Bytes128, 128)] {
        assert_eq!(map(&[128, 8], &[256], &[128, 8], swizzle), exceeds(span));
        assert_eq!(map(&[128, 8], &[256], &[8, 8], swizzle), narrower(span));
        assert!(map(&[128, 8], &[256], &[span / 2, 8], swizzle).is_ok());
    }
    assert_eq!(map(&[256, 256, 4], &[512, 512], &[256, 256, 2], plain), Err(E::BoxBytes(262_144)));
    // Every message says something of its own.
    let messages = [
        E::Rank(0).to_string(),
        E::Lengths { rank: 2, strides: 0, box_extents: 2 }.to_string(),
        E::InnerBoxNarrowerThanSwizzle { bytes: 16, span: 32 }.to_string(),
    ];
    assert!(messages[1].contains("takes 2 box extents and 1 strides, not 2 and 0"), "{}", messages[1]);
    assert!(messages[2].contains("16 bytes"), "{}", messages[2]);
}

#[test]
fn bytes_are_a_map_again() {
    for element in ElementType::ALL {
        for swizzle in Swizzle::ALL {
            for rank in 1..=5 {
                let span = if swizzle == Swizzle::None { 64 } else { swizzle.span() };
                let extents: Vec<u64> = (0..rank).map(|axis| 1 << (32 - 8 * axis)).collect();
                let strides: Vec<u64> = (1..rank).map(|axis| 16 << axis).collect();
                let mut boxes = vec![3; rank];
                boxes[0] = span / element.bytes();
                let map = TensorMap::new(element, 0x7F00_0000_1230, &extents, &strides, &boxes, swizzle).unwrap();
                let bytes = map.to_bytes();
                assert_eq!(TensorMap::from_bytes(&bytes), Some(map.clone()));
                // No byte may differ without being noticed or meaning another map.
                for position in 0..128 {
                    let mut wrong = bytes;
                    wrong[position] ^= 0x81;
                    assert_ne!(TensorMap::from_bytes(&wrong), Some(map.clone()), "byte {position}");
                }
            }
        }
    }
    for foreign in [[0; 128], [0xFF; 128]] {
        assert_eq!(TensorMap::from_bytes(&foreign), None);
    }
}

/// What a box load must leave at a byte offset of the box: the global address of the byte, or nothing if out of range. Written as
/// the definition: take the offset apart into coordinates and look whether each is in range.
fn byte_by_definition(map: &TensorMap, coordinates: &[i32], offset: u32) -> Option<u64> {
    let size = map.element.bytes();
    let mut element = offset / size;
    let mut address = i128::from(map.address) + i128::from(offset % size);
    let mut inside = true;
    for (axis, &coordinate) in coordinates.iter().enumerate() {
        let position = i128::from(coordinate) + i128::from(element % map.box_extents[axis]);
        element /= map.box_extents[axis];
        inside &= (0..i128::from(map.extents[axis])).contains(&position);
        let stride = if axis == 0 { u64::from(size) } else { map.strides_bytes[axis - 1] };
        address += position * i128::from(stride);
    }
    inside.then_some(address as u64)
}

fn assert_box(map: &TensorMap, coordinates: &[i32]) {
    let runs = map.box_runs(coordinates);
    assert_eq!(runs.len() as u32 * 16, map.box_bytes());
    for (number, run) in runs.iter().enumerate() {
        assert_eq!(run.offset, number as u32 * 16);
        assert!(run.skip + run.bytes <= 16);
        for byte in 0..16 {
            let inside = (run.skip..run.skip + run.bytes).contains(&byte);
            let address = inside.then(|| run.address + u64::from(byte - run.skip));
            let expected = byte_by_definition(map, coordinates, run.offset + byte);
            assert_eq!(address, expected, "{coordinates:?}, byte {} of the box", run.offset + byte);
        }
    }
}

#[test]
fn boxes_are_what_their_coordinates_say() {
    // (batch 2, head 3, row 21, column 40), rows inside heads inside batches, with gaps; boxes that don't divide anything.
    for element in [ElementType::Bf16, ElementType::F32] {
        let size = u64::from(element.bytes());
        let strides = [64 * 3 * size, 64 * size, 64 * 3 * 25 * size];
        let map = TensorMap::new(element, 0x10_0000, &[40, 21, 3, 2], &strides, &[16, 8, 2, 1], Swizzle::None).unwrap();
        for column in [-17, -16, -15, -5, -1, 0, 3, 8, 24, 25, 30, 39, 40, 41] {
            for row in [-9, -8, -3, 0, 13, 14, 20, 21] {
                for head in [-2, -1, 0, 1, 2, 3] {
                    for batch in [-1, 0, 1, 2] {
                        assert_box(&map, &[column, row, head, batch]);
                    }
                }
            }
        }
    }
}

#[test]
fn boxes_of_other_ranks_and_extreme_coordinates() {
    let line = map(&[100], &[], &[64], Swizzle::None).unwrap();
    let repeated = map(&[64, 5, 7], &[128, 0], &[64, 2, 3], Swizzle::Bytes128).unwrap();
    let chunked = map(&[64, 33, 2, 3, 2], &[256, 128, 8448, 25_344], &[64, 16, 2, 1, 1], Swizzle::Bytes128).unwrap();
    for first in [i32::MIN, -64, -63, -1, 0, 36, 37, 99, 100, i32::MAX] {
        assert_box(&line, &[first]);
        assert_box(&repeated, &[0, first, 5]);
        assert_box(&repeated, &[0, 4, first]);
        assert_box(&chunked, &[first, 32, 1, 0, 1]);
        assert_box(&chunked, &[0, 17, first, 2, 1]);
        assert_box(&chunked, &[0, 17, 0, 2, first]);
    }
    let huge = map(&[1 << 32, 1 << 32], &[16], &[64, 2], Swizzle::Bytes128).unwrap();
    assert_box(&huge, &[i32::MAX, i32::MAX]);
}

#[test]
fn a_swizzled_box_is_the_tile_that_wgmma_reads() {
    // 128 rows of two 64-column chunks: a box a chunk, read back through a descriptor of each major.
    use super::super::descriptor::{Descriptor, Major};
    let base = 1024;
    let tensor = map(&[128, 128], &[256], &[64, 128], Swizzle::Bytes128).unwrap();
    let chunk = tensor.box_bytes();
    assert_eq!(chunk, 16_384);
    let mut shared = vec![None; (base + 2 * chunk) as usize / 16];
    for index in 0..2 {
        for run in tensor.box_runs(&[64 * index as i32, 0]) {
            assert_eq!((run.skip, run.bytes), (0, 16));
            let slot = &mut shared[tensor.swizzled(base + index * chunk + run.offset) as usize / 16];
            assert_eq!(slot.replace(run.address - 4096), None);
        }
    }
    for step in 0..8 {
        let start = base + step % 4 * 32 + step / 4 * chunk;
        let keys = Descriptor { start, leading: 16, stride: 1024, swizzle: Swizzle::Bytes128 };
        for piece in keys.pieces(Major::Depth, 128).unwrap() {
            let expected = u64::from(piece.row * 256 + (16 * step + piece.depth) * 2);
            assert_eq!(shared[piece.address as usize / 16], Some(expected));
        }
        let values = Descriptor { start: base + step * 2048, leading: chunk, stride: 1024, swizzle: Swizzle::Bytes128 };
        for piece in values.pieces(Major::Rows, 128).unwrap() {
            let expected = u64::from((16 * step + piece.depth) * 256 + piece.row * 2);
            assert_eq!(shared[piece.address as usize / 16], Some(expected));
        }
    }
}
