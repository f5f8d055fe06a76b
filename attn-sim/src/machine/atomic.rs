//! Additions to global memory that several blocks may make at once.
//!
//! Invariant: each element is added to whole; the order of additions of different blocks is that of the host's threads.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use half::{bf16, f16};

use crate::abi::Address;
use crate::numeric::tensor_map::ElementType;

/// Adds to a float; what it was.
///
/// # Safety
/// The address must be that of a float of a live buffer, a multiple of 4.
pub(crate) unsafe fn add_f32(address: Address, value: f32) -> f32 {
    // SAFETY: as promised by the caller.
    let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
    let sum = |old: u32| Some((f32::from_bits(old) + value).to_bits());
    let old = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).expect("the update always succeeds");
    f32::from_bits(old)
}

/// Adds to a 16-bit float or another 16-bit element.
unsafe fn add_half(address: Address, sum: impl Fn(u16) -> u16) {
    // SAFETY: as promised by the caller of `add`.
    let half = unsafe { AtomicU16::from_ptr(address as *mut u16) };
    half.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(sum(old))).expect("the update always succeeds");
}

/// Adds elements to those at an address.
///
/// # Safety
/// As many elements of this type must lie there in a live buffer, aligned.
pub(crate) unsafe fn add(element: ElementType, address: Address, bytes: &[u8]) {
    let size = element.bytes() as usize;
    for (at, value) in bytes.chunks_exact(size).enumerate() {
        let to = address + at * size;
        let word = || u32::from_le_bytes(value.try_into().expect("four bytes"));
        let half = || u16::from_le_bytes(value.try_into().expect("two bytes"));
        // SAFETY: as promised by the caller.
        unsafe {
            match element {
                ElementType::F32 => drop(add_f32(to, f32::from_bits(word()))),
                ElementType::I32 => {
                    AtomicU32::from_ptr(to as *mut u32).fetch_add(word(), Ordering::Relaxed);
                }
                ElementType::F16 => {
                    add_half(to, |old| (f16::from_bits(old) + f16::from_bits(half())).to_bits());
                }
                ElementType::Bf16 => {
                    add_half(to, |old| (bf16::from_bits(old) + bf16::from_bits(half())).to_bits());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_added_in_their_type() {
        let mut floats = [1.5f32, -2.0];
        let more: Vec<u8> = [0.25f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        // SAFETY: two floats.
        unsafe { add(ElementType::F32, floats.as_mut_ptr() as Address, &more) };
        assert_eq!(floats, [1.75, 0.0]);
        let mut halves = [bf16::from_f32(3.0); 2];
        let more: Vec<u8> = [bf16::from_f32(0.5); 2].iter().flat_map(|value| value.to_le_bytes()).collect();
        // SAFETY: two halves.
        unsafe { add(ElementType::Bf16, halves.as_mut_ptr() as Address, &more) };
        assert_eq!(halves, [bf16::from_f32(3.5); 2]);
    }
}
