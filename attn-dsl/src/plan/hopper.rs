//! Tiles of the Hopper schedule (sm_90a): a producer warpgroup that copies tiles with tensor maps, and two or three consumer
//! warpgroups of 64 queries each, whose products read shared memory themselves (`wgmma`).
//!
//! # Registers
//! A thread of a consumer holds block_kv / 2 scores, value_dim / 2 outputs and block_kv / 4 packed weights, and what the variant
//! needs. Two consumers have 240 registers a thread, three have 160, so that three serve only head dimensions up to 64 and
//! weights that are a short expression of the product.
//!
//! # Choices
//! Rules choose one tile; which is fastest depends on lengths and on what a pair costs, too. [`hopper_choices`] has the few others
//! that are worth a measurement.
//!
//! Invariants: what the schedule does not take is refused with a reason, and the portable schedule takes it; the first choice is that
//! of the rules, all choices are different and fit shared memory.

use super::{ElementType, Shape, Target};

/// Columns of a chunk of a tile, and bytes of its rows: the widest swizzle.
const CHUNK_COLUMNS: usize = 64;
pub(super) const CHUNK_ROW_BYTES: usize = 128;
/// Tiles of k and of v in shared memory.
const STAGES: usize = 2;
/// What pair expressions may cost for three consumers: more need registers that a third leaves too few of.
const LIGHT: usize = 8;
/// Queries of a consumer warpgroup.
const CONSUMER_ROWS: usize = 64;
/// Barriers: full and empty of q, k, v and the values of keys and distances.
const BARRIER_BYTES: usize = 8 * (2 + 6 * STAGES);
/// Barriers of a stage of a ring: full and empty.
pub(super) const BARRIER_BYTES_OF_STAGE: usize = 16;
/// Which tile a block works on, and in a packed batch the rows and lengths of its sequence.
pub(super) const WORK_BYTES: usize = 16;
const PACKED_WORK_BYTES: usize = 32;
/// Which tile of keys each stage holds: 4 bytes a stage, in pieces of 16.
const LIVE_TILE_BYTES: usize = 16;

/// Bytes of the slot that says which tile a block works on, and of those that say which tiles of keys its stages hold, if any do.
pub(crate) fn work_bytes(shape: Shape, live_tiles: bool) -> usize {
    let work = if shape.is_packed() { PACKED_WORK_BYTES } else { WORK_BYTES };
    work + if live_tiles { LIVE_TILE_BYTES } else { 0 }
}

/// Bytes of a key's row of the slice that its term is, and of the number that a tile's terms are relative to.
const BIAS_ROW_BYTES: usize = 32;
const BIAS_OFFSET_BYTES: usize = 8;

/// The tile of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopperTiles {
    pub(crate) block_q: usize,
    pub(crate) block_kv: usize,
    /// Consumer warpgroups.
    pub(crate) consumers: usize,
    pub(crate) stages: usize,
    /// Whether the output has a tile of its own beside q's, so that the next queries are loaded while it is stored.
    pub(crate) own_output_tile: bool,
    /// Whether a term of the key is one more slice of the product's depth.
    pub(crate) key_bias: bool,
    /// Registers of a thread of the producer and of a consumer.
    pub(crate) registers: [usize; 2],
    /// Copies of the values of distances: with two, a thread reads neighbouring ones at once.
    pub(crate) relative_copies: usize,
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared_memory: usize,
}

/// What a variant asks of the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HopperNeeds {
    /// Instructions, about, that turn a product into an exponent or a weight: none where a score is the scaled product itself.
    pub(crate) pair_cost: usize,
    /// Whether a term of the key is added to the product, as one more slice of its depth.
    pub(crate) key_bias: bool,
    /// 4-byte fields of each key that are kept in shared memory.
    pub(crate) key_fields: usize,
    /// 4-byte fields of each distance `kv - q` that are kept there.
    pub(crate) relative_fields: usize,
    /// Whether the producer says which tiles of keys it loads, since the mask leaves some out.
    pub(crate) live_tiles: bool,
}

impl HopperNeeds {
    /// Whether the registers of three consumers suffice.
    fn is_light(&self) -> bool {
        self.pair_cost <= LIGHT && self.key_fields <= 2 && self.relative_fields <= 1
    }
}

/// Bytes of one copy of one field of a tile's distances: of two, the second begins 16 banks after the first.
pub(crate) fn relative_copy_bytes(block_q: usize, block_kv: usize) -> usize {
    let values = block_q + block_kv;
    4 * (values + (48 - values % 32) % 32)
}

/// What the threads of a block start with, which warpgroups share: a multiple of 8 each.
#[cfg(test)]
pub(super) fn launched_registers(consumers: usize) -> usize {
    let threads = 128 * (1 + consumers);
    65536 / threads / 8 * 8 * threads
}

pub(super) fn chunks(columns: usize) -> usize {
    columns.div_ceil(CHUNK_COLUMNS)
}

/// Whether the target has the schedule's instructions for the shape's type; else why not.
pub(super) fn half_on_hopper(shape: Shape, target: Target) -> Result<(), &'static str> {
    if target != Target::Sm90a {
        return Err("only sm_90a has wgmma");
    }
    if shape.element() == ElementType::F32 {
        return Err("wgmma has no products of f32 accuracy");
    }
    Ok(())
}

/// The tiles of the forward pass, or why there are none.
pub(crate) fn hopper_forward(shape: Shape, target: Target, needs: HopperNeeds) -> Result<HopperTiles, &'static str> {
    half_on_hopper(shape, target)?;
    let (head, value) = (chunks(shape.head_dim()), chunks(shape.value_dim()));
    let tile = match (head.max(value), value) {
        (1, _) if needs.is_light() => (3, 128),
        (..=2, _) | (3, ..=2) => (2, 128),
        (3, _) => (2, 112),
        _ if needs.key_bias => (2, 64),
        _ => (2, 80),
    };
    planned(shape, target, needs, tile)
}

/// The tiles of the forward pass that are worth a measurement: that of [`hopper_forward`] first, then others that fit.
pub(crate) fn hopper_choices(
    shape: Shape,
    target: Target,
    needs: HopperNeeds,
) -> Result<Vec<HopperTiles>, &'static str> {
    let mut choices = vec![hopper_forward(shape, target, needs)?];
    // what a thread of a consumer holds of a long tile leaves few registers to a variant
    let long = needs.pair_cost == 0 && needs.key_fields == 0;
    let tiles: &[(usize, usize)] = match chunks(shape.head_dim()).max(chunks(shape.value_dim())) {
        1 if needs.is_light() => &[(3, 128), (2, 128), (3, 112)],
        1 => &[(2, 128), (2, 112)],
        2 if long => &[(2, 128), (2, 176), (2, 112)],
        2 => &[(2, 128), (2, 112)],
        3 => &[(2, 112), (2, 96)],
        _ if needs.key_bias => &[(2, 64), (2, 48)],
        _ => &[(2, 80), (2, 64)],
    };
    for &tile in tiles {
        let known = choices.iter().any(|choice| (choice.consumers, choice.block_kv) == tile);
        if let (false, Ok(planned)) = (known, planned(shape, target, needs, tile)) {
            choices.push(planned);
        }
    }
    Ok(choices)
}

/// The tiles for a number of consumers and of keys, if shared memory has room.
fn planned(
    shape: Shape,
    target: Target,
    needs: HopperNeeds,
    (consumers, block_kv): (usize, usize),
) -> Result<HopperTiles, &'static str> {
    let (head, value) = (chunks(shape.head_dim()), chunks(shape.value_dim()));
    let block_q = consumers * CONSUMER_ROWS;
    let tile = |rows: usize, chunks: usize| rows * chunks * CHUNK_ROW_BYTES;
    let (ones, bias) = match needs.key_bias {
        true => (CONSUMER_ROWS * BIAS_ROW_BYTES, block_kv * BIAS_ROW_BYTES + BIAS_OFFSET_BYTES),
        false => (0, 0),
    };
    let rings = STAGES * (tile(block_kv, head + value) + block_kv * 4 * needs.key_fields + bias);
    let relative = needs.relative_fields * relative_copy_bytes(block_q, block_kv);
    // a fast read of distances is worth more than an early load of queries
    let size = |(copies, own_output_tile): (usize, bool)| {
        let outputs = if own_output_tile { tile(block_q, value) } else { 0 };
        let queries = tile(block_q, if own_output_tile { head } else { head.max(value) });
        queries
            + outputs
            + ones
            + rings
            + BARRIER_BYTES
            + work_bytes(shape, needs.live_tiles)
            + (STAGES + 1) * copies * relative
    };
    let fits = |choice: &(usize, bool)| size(*choice) <= target.shared_memory_per_block();
    let choices = [(2, true), (2, false), (1, true), (1, false)];
    let Some((relative_copies, own_output_tile)) = choices.into_iter().find(fits) else {
        return Err("its tiles need more shared memory than a block has");
    };
    let shared_memory = size((relative_copies, own_output_tile));
    let registers = match (consumers, needs.key_fields + needs.relative_fields) {
        (3, _) => [32, 160],
        (_, 0) if !needs.key_bias && !needs.live_tiles => [24, 240],
        _ => [40, 232],
    };
    Ok(HopperTiles {
        block_q,
        block_kv,
        consumers,
        stages: STAGES,
        own_output_tile,
        key_bias: needs.key_bias,
        registers,
        relative_copies,
        shared_memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: HopperNeeds =
        HopperNeeds { pair_cost: 0, key_bias: false, key_fields: 0, relative_fields: 0, live_tiles: false };

    /// The first choice is that of the rules; all fit, and no two are the same tile.
    fn check_choices(shape: Shape, needs: HopperNeeds) {
        let choices = hopper_choices(shape, Target::Sm90a, needs).unwrap();
        assert_eq!(choices[0], hopper_forward(shape, Target::Sm90a, needs).unwrap());
        for (at, tiles) in choices.iter().enumerate() {
            assert!(tiles.shared_memory <= 227 << 10, "{shape}: {tiles:?}");
            let registers = 128 * (tiles.registers[0] + tiles.consumers * tiles.registers[1]);
            assert!(registers <= launched_registers(tiles.consumers), "{shape}: {tiles:?}");
            assert!(tiles.block_kv.is_multiple_of(16) && tiles.block_q == 64 * tiles.consumers, "{shape}: {tiles:?}");
            let is_same = |other: &HopperTiles| [other.block_q, other.block_kv] == [tiles.block_q, tiles.block_kv];
            assert!(!choices[..at].iter().any(is_same), "{shape}: {choices:?}");
        }
    }

    #[test]
    fn choices_are_those_of_the_head_dimension() {
        let choices = |head_dim: usize, needs| {
            let shape = Shape::new(ElementType::Bf16, head_dim, head_dim).unwrap();
            let choices = hopper_choices(shape, Target::Sm90a, needs).unwrap();
            choices.iter().map(|tiles| (tiles.consumers, tiles.block_kv)).collect::<Vec<_>>()
        };
        let heavy = HopperNeeds { pair_cost: 20, ..PLAIN };
        assert_eq!(choices(64, PLAIN), [(3, 128), (2, 128), (3, 112)]);
        assert_eq!(choices(64, heavy), [(2, 128), (2, 112)]);
        assert_eq!(choices(128, PLAIN), [(2, 128), (2, 176), (2, 112)]);
        assert_eq!(choices(128, heavy), [(2, 128), (2, 112)]);
        assert_eq!(choices(192, PLAIN), [(2, 112), (2, 96)]);
        assert_eq!(choices(256, PLAIN), [(2, 80), (2, 64)]);
        assert_eq!(choices(256, HopperNeeds { key_bias: true, ..PLAIN }), [(2, 64), (2, 48)]);
    }

    #[test]
    fn every_half_shape_has_tiles() {
        for element in [ElementType::F16, ElementType::Bf16] {
            for head_dim in (8..=256).step_by(8) {
                for value_dim in (8..=256).step_by(8) {
                    for (plain, key_fields, relative_fields) in
                        [(true, 0, 0), (false, 0, 0), (false, 0, 1), (false, 4, 0), (true, 2, 0)]
                    {
                        let shape = Shape::new(element, head_dim, value_dim).unwrap();
                        for key_bias in [false, plain] {
                            let pair_cost = if plain { 0 } else { 20 };
                            let needs =
                                HopperNeeds { pair_cost, key_bias, key_fields, relative_fields, live_tiles: true };
                            check_choices(shape, needs);
                        }
                    }
                }
            }
        }
    }

    /// Two copies of the values of distances where there is room, half of the banks apart; else one.
    #[test]
    fn distances_are_kept_twice_where_there_is_room() {
        for (head_dim, copies) in [(64, 2), (128, 2), (192, 2), (256, 1)] {
            let shape = Shape::new(ElementType::Bf16, head_dim, head_dim).unwrap();
            let needs = HopperNeeds { pair_cost: 20, relative_fields: 1, ..PLAIN };
            let tiles = hopper_forward(shape, Target::Sm90a, needs).unwrap();
            assert_eq!(tiles.relative_copies, copies, "{shape}");
            let bytes = relative_copy_bytes(tiles.block_q, tiles.block_kv);
            assert!(bytes % 128 == 64 && bytes >= 4 * (tiles.block_q + tiles.block_kv), "{tiles:?}");
        }
    }

    #[test]
    fn others_are_refused() {
        let needs = PLAIN;
        let refused =
            |element, target| hopper_forward(Shape::new(element, 64, 64).unwrap(), target, needs).unwrap_err();
        assert!(refused(ElementType::F32, Target::Sm90a).contains("f32"));
        assert!(refused(ElementType::Bf16, Target::Sm80).contains("sm_90a"));
        assert!(refused(ElementType::Bf16, Target::Sm100a).contains("sm_90a"));
    }
}
