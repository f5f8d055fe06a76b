//! Matrix instructions of a warp: `ldmatrix`, `stmatrix` and `mma.sync`.
//!
//! Invariant: shared memory is checked by the lane that gives the address of a row; the arithmetic is in [`crate::numeric`].

use super::{Block, Caller, Raised, Step, WARP, Waiting};
use crate::numeric::element::Element;
use crate::numeric::{matrix, mma};

/// Bytes of a row of an 8 x 8 matrix of 16-bit elements.
const ROW: u32 = 16;

/// What a lane lays out for `ldmatrix` and `stmatrix`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixRows {
    pub(crate) address: u32,
    pub(crate) registers: [u32; 4],
}

/// What a lane lays out for `mma.sync`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragments {
    pub(crate) a: [u32; 4],
    pub(crate) b: [u32; 2],
    pub(crate) c: [f32; 4],
}

impl Block {
    pub(crate) fn load_matrix(
        &mut self,
        caller: Caller,
        count: u32,
        transposed: bool,
        payload: &mut MatrixRows,
    ) -> Result<Step<()>, Raised> {
        let key = u64::from(count) << 1 | u64::from(transposed);
        let Some(members) = self.gather(caller, !0, "ldmatrix", key, std::ptr::from_mut(payload) as usize)? else {
            return Ok(Step::Wait(Waiting::Collective("ldmatrix")));
        };
        let mut rows = [[0; ROW as usize]; WARP];
        for member in &members[..8 * count as usize] {
            let who = Caller { thread: member.thread, pc: member.pc };
            // SAFETY: the payload lies on the stack of a member that is suspended or is the caller.
            let address = unsafe { (*(member.payload as *const MatrixRows)).address };
            let offset = self.read_shared(who, address, ROW, ROW)?;
            self.shared.read(offset, &mut rows[member.thread % WARP]);
        }
        let registers = matrix::load(&rows[..8 * count as usize], count as usize, transposed);
        for (member, registers) in members.iter().zip(registers) {
            // SAFETY: as above.
            unsafe { (*(member.payload as *mut MatrixRows)).registers = registers };
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    pub(crate) fn store_matrix(
        &mut self,
        caller: Caller,
        count: u32,
        transposed: bool,
        payload: &mut MatrixRows,
    ) -> Result<Step<()>, Raised> {
        let key = u64::from(count) << 1 | u64::from(transposed);
        let Some(members) = self.gather(caller, !0, "stmatrix", key, std::ptr::from_mut(payload) as usize)? else {
            return Ok(Step::Wait(Waiting::Collective("stmatrix")));
        };
        let mut registers = [[0; 4]; WARP];
        for (member, registers) in members.iter().zip(&mut registers) {
            // SAFETY: as in `load_matrix`.
            *registers = unsafe { (*(member.payload as *const MatrixRows)).registers };
        }
        let rows = matrix::store(&registers, count as usize, transposed);
        for (member, row) in members.iter().zip(rows.iter()).take(8 * count as usize) {
            let who = Caller { thread: member.thread, pc: member.pc };
            // SAFETY: as in `load_matrix`.
            let address = unsafe { (*(member.payload as *const MatrixRows)).address };
            let offset = self.write_shared(who, address, ROW, ROW)?;
            self.shared.write(offset, row);
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    pub(crate) fn multiply(&mut self, caller: Caller, kind: u32, payload: &mut Fragments) -> Result<Step<()>, Raised> {
        let Some(members) =
            self.gather(caller, !0, "mma.sync", u64::from(kind), std::ptr::from_mut(payload) as usize)?
        else {
            return Ok(Step::Wait(Waiting::Collective("mma.sync")));
        };
        let (mut a, mut b, mut c) = ([[0; 4]; WARP], [[0; 2]; WARP], [[0.0; 4]; WARP]);
        for (lane, member) in members.iter().enumerate() {
            // SAFETY: as in `load_matrix`.
            let fragments = unsafe { &*(member.payload as *const Fragments) };
            (a[lane], b[lane], c[lane]) = (fragments.a, fragments.b, fragments.c);
        }
        match kind {
            0 => mma::multiply_m16n8k16(Element::F16, &a, &b, &mut c),
            1 => mma::multiply_m16n8k16(Element::Bf16, &a, &b, &mut c),
            _ => mma::multiply_m16n8k8_tf32(&a, &b, &mut c),
        }
        for (member, c) in members.iter().zip(c) {
            // SAFETY: as in `load_matrix`.
            unsafe { (*(member.payload as *mut Fragments)).c = c };
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }
}
