//! Tables of blocks, as the mask `blocks(table, block_q, block_kv)` reads them, from lists of blocks and back.
//!
//! The lists are those of FlexAttention's `BlockMask`: for each block of queries (a row) how many blocks of keys it sees, and which.
//!
//! Invariant: a table has a 1 for each entry of the lists and 0 elsewhere; lists have the columns of a row in rising order.

use crate::error::Error;
use crate::tensor::{DType, Tensor};

/// What is wrong with lists or tables of blocks. Batch, head and row are those of `kv_num_blocks`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockListError {
    /// A tensor that holds no 32-bit integers.
    #[error("`{tensor}` is {dtype}; blocks are numbered in i32")]
    DType {
        /// Which tensor.
        tensor: &'static str,
        /// Its type.
        dtype: DType,
    },
    /// A tensor with other axes.
    #[error("`{tensor}` has shape {shape:?}; its axes are {axes}: give it axes of extent 1 for what all share")]
    Rank {
        /// Which tensor.
        tensor: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// The axes that it needs.
        axes: &'static str,
    },
    /// Counts and indices of different batches, heads or rows.
    #[error(
        "`kv_num_blocks` has shape {counts:?} and `kv_indices` {indices:?}; the second needs the axes of the first and one more, \
         for the blocks of a row"
    )]
    Extents {
        /// The shape of `kv_num_blocks`.
        counts: Vec<usize>,
        /// The shape of `kv_indices`.
        indices: Vec<usize>,
    },
    /// A row of less than no blocks, or of more than its list has room for.
    #[error("row {row} of batch {b}, head {h} has {count} blocks; its list in `kv_indices` has room for 0 to {room}")]
    Count {
        /// The batch.
        b: usize,
        /// The head.
        h: usize,
        /// The block of queries.
        row: usize,
        /// The entry of `kv_num_blocks`.
        count: i32,
        /// The last extent of `kv_indices`.
        room: usize,
    },
    /// A block of keys that the table has no column for.
    #[error(
        "entry {entry} of row {row} of batch {b}, head {h} is block {index}; there are {columns} columns, numbered from 0: give more columns or another \
         index"
    )]
    Index {
        /// The batch.
        b: usize,
        /// The head.
        h: usize,
        /// The block of queries.
        row: usize,
        /// The place in the row's list.
        entry: usize,
        /// The entry of `kv_indices`.
        index: i32,
        /// The columns asked for.
        columns: usize,
    },
    /// A block of keys that a row lists twice: a key is seen or not, so that it would not count twice.
    #[error("row {row} of batch {b}, head {h} lists block {index} more than once; name each block once")]
    Repeated {
        /// The batch.
        b: usize,
        /// The head.
        h: usize,
        /// The block of queries.
        row: usize,
        /// The entry of `kv_indices`.
        index: i32,
    },
}

/// The table of lists of blocks: i32 `[b, h, rows, columns]`, 1 where a block of queries sees a block of keys and 0 elsewhere, on the
/// host.
///
/// * `kv_num_blocks`: i32 `[b, h, rows]`, how many blocks of keys each block of queries sees.
/// * `kv_indices`: i32 `[b, h, rows, max]`, their numbers; entries behind the count are not looked at.
/// * `columns`: how many blocks of keys there are, the length of the keys divided by the size of a block, rounded up.
///
/// `b` and `h` may be 1 where all batches or heads share a pattern. Lists on a GPU are read back, which waits for it; bring the table
/// there with [`Tensor::to_device`] and keep it. FlexAttention keeps blocks without a dead pair in lists of their own
/// (`full_kv_num_blocks`, `full_kv_indices`), disjoint from these. Where a `mask_mod` holds on all of their pairs, both kinds
/// of blocks belong in one table, and the mask is `blocks(table, 128, 128) & mask_mod`: which blocks are full follows from it.
///
/// ```
/// use attn_runtime::{Tensor, block_lists, block_table};
///
/// // two blocks of queries: the first sees block 0 of keys, the second blocks 0 and 2
/// let kv_num_blocks = Tensor::from_i32(&[1, 1, 2], vec![1, 2])?;
/// let kv_indices = Tensor::from_i32(&[1, 1, 2, 3], vec![0, -1, -1, 2, 0, -1])?;
/// let table = block_table(&kv_num_blocks, &kv_indices, 3)?;
/// assert_eq!(table.shape(), [1, 1, 2, 3]);
/// assert_eq!(table.to_elements::<i32>()?, [1, 0, 0, 1, 0, 1]);
///
/// let [counts, indices] = block_lists(&table)?;
/// assert_eq!(counts.to_elements::<i32>()?, [1, 2]);
/// assert_eq!(indices.to_elements::<i32>()?, [0, 0, 0, 0, 2, 0]);
/// # Ok::<(), attn_runtime::Error>(())
/// ```
///
/// # Errors
/// Lists that are not i32, whose shapes do not fit each other, and the first row with a wrong count or index: see
/// [`BlockListError`]. Whatever reading a tensor back can meet.
pub fn block_table(kv_num_blocks: &Tensor, kv_indices: &Tensor, columns: usize) -> Result<Tensor, Error> {
    let (counts, count_shape) = integers("kv_num_blocks", "[b, h, rows]", 3, kv_num_blocks)?;
    let (indices, index_shape) = integers("kv_indices", "[b, h, rows, max]", 4, kv_indices)?;
    if index_shape[..3] != count_shape {
        return Err(BlockListError::Extents { counts: count_shape, indices: index_shape }.into());
    }
    let [heads, rows, room] = [index_shape[1], index_shape[2], index_shape[3]];
    let shape = [count_shape[0], heads, rows, columns];
    // also says where a table is too large
    let mut table: Vec<i32> = Tensor::zeros(DType::I32, &shape)?.to_elements()?;
    for (at, &count) in counts.iter().enumerate() {
        let (b, h, row) = (at / rows / heads, at / rows % heads, at % rows);
        let listed = usize::try_from(count).ok().filter(|&count| count <= room);
        let Some(listed) = listed else { return Err(BlockListError::Count { b, h, row, count, room }.into()) };
        for (entry, &index) in indices[at * room..][..listed].iter().enumerate() {
            let column = usize::try_from(index).ok().filter(|&column| column < columns);
            let Some(column) = column else {
                return Err(BlockListError::Index { b, h, row, entry, index, columns }.into());
            };
            let element = &mut table[at * columns + column];
            if *element != 0 {
                return Err(BlockListError::Repeated { b, h, row, index }.into());
            }
            *element = 1;
        }
    }
    Ok(Tensor::from_i32(&shape, table)?)
}

/// The lists of a table of blocks, i32 `[b, h, rows, columns]`: `kv_num_blocks`, i32 `[b, h, rows]`, and `kv_indices`, i32
/// `[b, h, rows, columns]`, the columns of each row that are not 0 in rising order, then zeros. On the host; a table on a GPU is read
/// back, which waits for it.
///
/// # Errors
/// A table that is not i32 or has other axes; whatever reading a tensor back can meet.
pub fn block_lists(table: &Tensor) -> Result<[Tensor; 2], Error> {
    let (elements, shape) = integers("table", "[b, h, rows, columns]", 4, table)?;
    let columns = shape[3];
    let row_count: usize = shape[..3].iter().product();
    let (mut counts, mut indices) = (Vec::with_capacity(row_count), Vec::with_capacity(elements.len()));
    for row in 0..row_count {
        let row = &elements[row * columns..][..columns];
        let live = (0i32..).zip(row).filter(|(_, element)| **element != 0).map(|(column, _)| column);
        let before = indices.len();
        indices.extend(live);
        counts.push(i32::try_from(indices.len() - before).expect("columns are numbered in i32"));
        indices.resize(before + columns, 0);
    }
    Ok([Tensor::from_i32(&shape[..3], counts)?, Tensor::from_i32(&shape, indices)?])
}

/// The elements of a tensor in row-major order, and its shape.
fn integers(
    name: &'static str,
    axes: &'static str,
    rank: usize,
    tensor: &Tensor,
) -> Result<(Vec<i32>, Vec<usize>), Error> {
    let shape = tensor.shape().to_vec();
    if tensor.dtype() != DType::I32 {
        return Err(BlockListError::DType { tensor: name, dtype: tensor.dtype() }.into());
    }
    if shape.len() != rank {
        return Err(BlockListError::Rank { tensor: name, shape, axes }.into());
    }
    Ok((tensor.to_host()?.to_elements()?, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[i32]) -> Tensor {
        Tensor::from_i32(shape, values.to_vec()).unwrap()
    }

    #[test]
    fn tables_are_their_lists() {
        for shape in [[2, 3, 4, 5], [1, 2, 0, 3], [0, 1, 2, 2], [1, 1, 3, 0]] {
            let count: usize = shape.iter().product();
            let elements: Vec<i32> = (0..count).map(|at| i32::from(at * at % 7 < 3)).collect();
            let table = tensor(&shape, &elements);
            let [counts, indices] = block_lists(&table).unwrap();
            let again = block_table(&counts, &indices, shape[3]).unwrap();
            assert_eq!(again.shape(), shape);
            assert_eq!(again.to_elements::<i32>().unwrap(), elements);
        }
        // a view, and an element that is not 1
        let table = tensor(&[1, 1, 3, 2], &[0, 0, 5, 0, -1, 1]).transpose(2, 3).unwrap();
        let [counts, indices] = block_lists(&table).unwrap();
        assert_eq!(counts.to_elements::<i32>().unwrap(), [2, 1]);
        assert_eq!(indices.to_elements::<i32>().unwrap(), [1, 2, 0, 2, 0, 0]);
    }

    #[test]
    fn errors_say_what_to_change() {
        let counts = tensor(&[1, 2, 1], &[1, 2]);
        let refused = |counts: &Tensor, indices: &Tensor| match block_table(counts, indices, 4) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        let of = |values: [i32; 6]| refused(&counts, &tensor(&[1, 2, 1, 3], &values));
        let messages = [
            of([0, 9, 9, 3, 0, 9]),
            of([4, 0, 0, 1, 2, 3]),
            of([0, 0, 0, -1, 2, 3]),
            of([0, 0, 0, 2, 2, 3]),
            refused(&tensor(&[1, 2, 1], &[1, 4]), &tensor(&[1, 2, 1, 3], &[0; 6])),
            refused(&tensor(&[1, 2, 1], &[-1, 0]), &tensor(&[1, 2, 1, 3], &[0; 6])),
            refused(&counts, &tensor(&[1, 1, 1, 3], &[0; 3])),
            refused(&tensor(&[2], &[0; 2]), &tensor(&[1, 2, 1, 3], &[0; 6])),
            refused(&Tensor::zeros(DType::F32, &[1, 2, 1]).unwrap(), &tensor(&[1, 2, 1, 3], &[0; 6])),
        ];
        insta::assert_snapshot!(messages.join("\n"));
    }
}
