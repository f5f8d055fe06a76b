//! `ldmatrix` and `stmatrix`: a warp moves up to four 8 x 8 matrices of 16-bit elements between shared memory and registers.
//!
//! Lane `l` supplies the address of row `l % 8` of matrix `l / 8`; the machine fetches those rows. Register `i` of lane `l`
//! holds the elements (`l / 4`, `2 (l % 4)`) and (`l / 4`, `2 (l % 4) + 1`) of matrix `i`, or of its transpose.
//!
//! Source: PTX ISA 9.0, "Warp-level matrix load instruction: ldmatrix", "Warp-level matrix store instruction: stmatrix".

/// One row of a matrix: eight 16-bit elements, as they lie in memory.
pub(crate) type Row = [u8; 16];

/// The (row, column) in memory of the element in a half of a lane's register.
#[inline]
const fn place(lane: usize, half: usize, transposed: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, 2 * (lane % 4) + half);
    if transposed { (column, row) } else { (row, column) }
}

/// Registers of all lanes from rows: row `r` of matrix `i` is `rows[8 i + r]`. Registers from `count` on are 0.
///
/// # Panics
/// If `count` isn't 1, 2 or 4, or there are fewer than `8 count` rows.
pub(crate) fn load(rows: &[Row], count: usize, transposed: bool) -> [[u32; 4]; 32] {
    assert!(matches!(count, 1 | 2 | 4), "ldmatrix loads 1, 2 or 4 matrices, not {count}");
    let mut registers = [[0; 4]; 32];
    for (matrix, rows) in rows[..8 * count].chunks_exact(8).enumerate() {
        for (lane, registers) in registers.iter_mut().enumerate() {
            let half = |half| {
                let (row, column) = place(lane, half, transposed);
                u32::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]))
            };
            registers[matrix] = half(0) | half(1) << 16;
        }
    }
    registers
}

/// Rows from registers of all lanes: the inverse of [`load`]. The first `8 count` rows are meant.
///
/// # Panics
/// If `count` isn't 1, 2 or 4.
pub(crate) fn store(registers: &[[u32; 4]; 32], count: usize, transposed: bool) -> [Row; 32] {
    assert!(matches!(count, 1 | 2 | 4), "stmatrix stores 1, 2 or 4 matrices, not {count}");
    let mut rows = [[0; 16]; 32];
    for (matrix, rows) in rows[..8 * count].chunks_exact_mut(8).enumerate() {
        for (lane, registers) in registers.iter().enumerate() {
            for half in 0..2 {
                let (row, column) = place(lane, half, transposed);
                let bits = (registers[matrix] >> (16 * half)) as u16;
                rows[row][2 * column..2 * column + 2].copy_from_slice(&bits.to_le_bytes());
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{m16n8k16_a, m16n8k16_b};
    use super::*;

    /// The number of row `row`, column `column` of matrix `matrix`.
    fn number(matrix: usize, row: usize, column: usize) -> u16 {
        (matrix * 64 + row * 8 + column) as u16 | 0x8000
    }

    fn numbered() -> [Row; 32] {
        std::array::from_fn(|lane| {
            let elements: Vec<u8> =
                (0..8).flat_map(|column| number(lane / 8, lane % 8, column).to_le_bytes()).collect();
            elements.try_into().unwrap()
        })
    }

    #[test]
    fn each_lane_gets_two_neighbours_of_a_row_or_a_column() {
        for count in [1, 2, 4] {
            let plain = load(&numbered(), count, false);
            let transposed = load(&numbered(), count, true);
            for matrix in 0..4 {
                for row in 0..8 {
                    for pair in 0..4 {
                        let lane = 4 * row + pair;
                        let join = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
                        let (left, right) = (2 * pair, 2 * pair + 1);
                        let mut expected = (
                            join(number(matrix, row, left), number(matrix, row, right)),
                            join(number(matrix, left, row), number(matrix, right, row)),
                        );
                        if matrix >= count {
                            expected = (0, 0);
                        }
                        assert_eq!((plain[lane][matrix], transposed[lane][matrix]), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn storing_undoes_loading() {
        for count in [1, 2, 4] {
            for transposed in [false, true] {
                let rows = store(&load(&numbered(), count, transposed), count, transposed);
                assert_eq!(rows[..8 * count], numbered()[..8 * count]);
                assert!(rows[8 * count..].as_flattened().iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn four_matrices_are_an_operand_of_mma() {
        // A 16 x 16 tile: matrices are its quadrants, rows first (0: upper left, 1: lower left, 2: upper right, 3: lower right).
        let tile = |row: usize, column: usize| (row * 16 + column) as u16;
        let rows: [Row; 32] = std::array::from_fn(|lane| {
            let (row, column) = (lane % 16, 8 * (lane / 16));
            let elements: Vec<u8> = (column..column + 8).flat_map(|c| tile(row, c).to_le_bytes()).collect();
            elements.try_into().unwrap()
        });
        let plain = load(&rows, 4, false);
        let transposed = load(&rows, 4, true);
        for lane in 0..32 {
            for (register, &pair) in plain[lane].iter().enumerate() {
                for half in 0..2 {
                    let (row, depth) = m16n8k16_a(lane, register, half);
                    assert_eq!((pair >> (16 * half)) as u16, tile(row, depth));
                }
            }
            // Stored depth x column and transposed on the way, registers 0, 1 are B for columns 0 to 7 and 2, 3 for 8 to 15.
            for (register, &pair) in transposed[lane].iter().enumerate() {
                for half in 0..2 {
                    let (depth, column) = m16n8k16_b(lane, register % 2, half);
                    assert_eq!((pair >> (16 * half)) as u16, tile(depth, column + 8 * (register / 2)));
                }
            }
        }
    }
}
