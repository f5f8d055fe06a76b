//! Which element of a matrix a thread's register holds.
//!
//! Every map takes the thread's number within the group that executes the instruction (32 or 128), the register's number in the
//! instruction's list, and for registers of two 16-bit elements which half (0 is the lower one). It returns (row, column) of
//! the matrix as mathematics writes it: A is rows x depth, B is depth x columns, C and D are rows x columns.
//!
//! Source: PTX ISA 9.0, "Matrix Fragments for mma.m16n8k16 with floating point type", "Matrix Fragments for mma.m16n8k8",
//! "Register Fragments for wgmma.mma_async.m64nNk16".
//!
//! Invariant: each map is a bijection between (thread, register, half) and the elements of its matrix.

/// Quad of a lane (a group of four lanes shares rows of A and C) and the lane's place in it.
#[inline]
const fn quad(lane: usize) -> (usize, usize) {
    (lane / 4 % 8, lane % 4)
}

/// A of `mma.m16n8k16` with 16-bit elements: 4 registers.
#[inline]
pub(crate) const fn m16n8k16_a(lane: usize, register: usize, half: usize) -> (usize, usize) {
    let (group, place) = quad(lane);
    (group + 8 * (register % 2), 2 * place + half + 8 * (register / 2))
}

/// B of `mma.m16n8k16` with 16-bit elements: 2 registers; (depth, column).
#[inline]
pub(crate) const fn m16n8k16_b(lane: usize, register: usize, half: usize) -> (usize, usize) {
    let (group, place) = quad(lane);
    (2 * place + half + 8 * register, group)
}

/// C and D in f32 of every `mma.m16n8`: 4 registers.
#[inline]
pub(crate) const fn m16n8_c(lane: usize, register: usize) -> (usize, usize) {
    let (group, place) = quad(lane);
    (group + 8 * (register / 2), 2 * place + register % 2)
}

/// A of `mma.m16n8k8` with tf32 elements: 4 registers.
#[inline]
pub(crate) const fn m16n8k8_tf32_a(lane: usize, register: usize) -> (usize, usize) {
    let (group, place) = quad(lane);
    (group + 8 * (register % 2), place + 4 * (register / 2))
}

/// B of `mma.m16n8k8` with tf32 elements: 2 registers; (depth, column).
#[inline]
pub(crate) const fn m16n8k8_tf32_b(lane: usize, register: usize) -> (usize, usize) {
    let (group, place) = quad(lane);
    (place + 4 * register, group)
}

/// Accumulator in f32 of `wgmma.m64nN`: N / 2 registers of each of 128 threads.
#[inline]
pub(crate) const fn wgmma_accumulator(thread: usize, register: usize) -> (usize, usize) {
    let (row, column) = m16n8_c(thread % 32, register % 4);
    (16 * (thread / 32) + row, 8 * (register / 4) + column)
}

/// A of `wgmma.m64nNk16` from registers, 16-bit elements: 4 registers of each of 128 threads.
#[inline]
pub(crate) const fn wgmma_a(thread: usize, register: usize, half: usize) -> (usize, usize) {
    let (row, depth) = m16n8k16_a(thread % 32, register, half);
    (16 * (thread / 32) + row, depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a rows x columns matrix of owners and checks that every element has exactly one.
    fn assert_bijection(rows: usize, columns: usize, places: impl Iterator<Item = (usize, usize)>) {
        let mut owners = vec![0; rows * columns];
        for (row, column) in places {
            assert!(row < rows && column < columns, "({row}, {column})");
            owners[row * columns + column] += 1;
        }
        assert!(owners.iter().all(|&count| count == 1), "{owners:?}");
    }

    /// (register, half) pairs in the order of the elements a0, a1, ... of the manual.
    fn elements(registers: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..2 * registers).map(|i| (i, i >> 1, i & 1))
    }

    #[test]
    fn m16n8k16_is_as_the_manual_says() {
        for lane in 0..32 {
            let (group_id, thread_in_group) = (lane >> 2, lane & 3);
            for (i, register, half) in elements(4) {
                let row = if i < 2 || (4..6).contains(&i) { group_id } else { group_id + 8 };
                let column = thread_in_group * 2 + (i & 1) + if i >= 4 { 8 } else { 0 };
                assert_eq!(m16n8k16_a(lane, register, half), (row, column));
            }
            for (i, register, half) in elements(2) {
                let row = thread_in_group * 2 + (i & 1) + if i >= 2 { 8 } else { 0 };
                assert_eq!(m16n8k16_b(lane, register, half), (row, group_id));
            }
            for i in 0..4 {
                let row = if i < 2 { group_id } else { group_id + 8 };
                assert_eq!(m16n8_c(lane, i), (row, thread_in_group * 2 + (i & 1)));
            }
        }
    }

    #[test]
    fn m16n8k8_tf32_is_as_the_manual_says() {
        for lane in 0..32 {
            let (group_id, thread_in_group) = (lane >> 2, lane & 3);
            for i in 0..4 {
                let row = if i == 0 || i == 2 { group_id } else { group_id + 8 };
                let column = if i < 2 { thread_in_group } else { thread_in_group + 4 };
                assert_eq!(m16n8k8_tf32_a(lane, i), (row, column));
            }
            assert_eq!(m16n8k8_tf32_b(lane, 0), (thread_in_group, group_id));
            assert_eq!(m16n8k8_tf32_b(lane, 1), (thread_in_group + 4, group_id));
        }
    }

    #[test]
    fn every_element_has_one_owner() {
        let lanes = |registers: usize| (0..32).flat_map(move |lane| (0..registers).map(move |r| (lane, r)));
        let halves = |registers: usize| lanes(registers).flat_map(|(lane, r)| (0..2).map(move |half| (lane, r, half)));
        assert_bijection(16, 16, halves(4).map(|(l, r, h)| m16n8k16_a(l, r, h)));
        assert_bijection(16, 8, halves(2).map(|(l, r, h)| m16n8k16_b(l, r, h)));
        assert_bijection(16, 8, lanes(4).map(|(l, r)| m16n8_c(l, r)));
        assert_bijection(16, 8, lanes(4).map(|(l, r)| m16n8k8_tf32_a(l, r)));
        assert_bijection(8, 8, lanes(2).map(|(l, r)| m16n8k8_tf32_b(l, r)));
        for n in (8..=256).step_by(8) {
            let places = (0..128).flat_map(|thread| (0..n / 2).map(move |r| wgmma_accumulator(thread, r)));
            assert_bijection(64, n, places);
        }
        let places = (0..128).flat_map(|t| (0..8).map(move |i| wgmma_a(t, i / 2, i % 2)));
        assert_bijection(64, 16, places);
    }

    #[test]
    fn wgmma_accumulators_follow_the_bits_of_thread_and_register() {
        // The layout written bit by bit: thread = wwgggqq, register = c..chl gives row wwhggg and column c..cqql.
        for thread in 0..128usize {
            for register in 0..128usize {
                let bit = |value: usize, bit: usize| value >> bit & 1;
                let row = bit(thread, 6) << 5
                    | bit(thread, 5) << 4
                    | bit(register, 1) << 3
                    | bit(thread, 4) << 2
                    | bit(thread, 3) << 1
                    | bit(thread, 2);
                let column = (register >> 2) << 3 | (thread & 3) << 1 | bit(register, 0);
                assert_eq!(wgmma_accumulator(thread, register), (row, column));
            }
        }
    }

    #[test]
    fn accumulators_packed_in_pairs_are_an_operand() {
        // Attention relies on it: registers 8j .. 8j + 7 of an accumulator, packed in pairs, are A for columns 16j .. 16j + 15.
        for thread in 0..128 {
            for slice in 0..16 {
                for i in 0..8 {
                    let (row, column) = wgmma_accumulator(thread, 8 * slice + i);
                    assert_eq!(wgmma_a(thread, i / 2, i % 2), (row, column - 16 * slice));
                }
            }
        }
    }
}
