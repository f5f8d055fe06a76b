//! Bulk copies: `cp.async.bulk` and its tensor form, to shared memory (signalling an mbarrier) and from it (in groups of the
//! issuing thread), and the additions `cp.reduce.async.bulk`.
//!
//! Invariants: a load's bytes belong to whoever knows of its mbarrier's phase; a store's source may be written again once its
//! thread has waited for its group, and its destination belongs to others once the thread has waited without `.read`. All global
//! accesses are checked when a copy is issued.

use std::rc::Rc;

use super::atomic;
use super::pending::Work;
use super::{Block, Caller, Raised};
use crate::abi::Address;
use crate::fault::FaultKind;
use crate::machine::global::GlobalAccess;
use crate::numeric::tensor_map::{ElementType, TensorMap};

/// A run of bytes on both sides.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The offset in shared memory.
    shared: u32,
    bytes: u32,
    /// The address of the first byte that is inside the tensor.
    global: Address,
    /// How many bytes before that are outside, and how many from there are inside.
    skipped: u32,
    inside: u32,
}

/// A copy to shared memory.
#[derive(Clone, Debug)]
pub(crate) struct BulkLoad {
    pub(crate) name: &'static str,
    pieces: Vec<Piece>,
    begin: u32,
    bytes: u32,
    barrier: u32,
}

/// How a store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combine {
    Replace,
    Add(ElementType),
}

/// A copy or reduction to global memory.
#[derive(Clone, Debug)]
pub(crate) struct BulkStore {
    pub(crate) name: &'static str,
    /// Those that write anything.
    pieces: Rc<[Piece]>,
    combine: Combine,
    /// What it has read, where something waited for that alone.
    read: Option<Rc<[u8]>>,
}

impl BulkStore {
    fn new(name: &'static str, pieces: impl IntoIterator<Item = Piece>, combine: Combine) -> BulkStore {
        // what lies outside of the tensor is dropped, whatever it is
        let pieces = pieces.into_iter().filter(|piece| piece.inside > 0).collect();
        BulkStore { name, pieces, combine, read: None }
    }

    /// Whether it needs shared memory no more.
    pub(crate) fn was_read(&self) -> bool {
        self.read.is_some()
    }
}

/// What bulk copies need of addresses and sizes.
const UNIT: u32 = 16;

impl Block {
    /// The tensor map that a kernel's address leads to.
    fn tensor_map(&self, caller: Caller, rank: u32, map: Address) -> Result<TensorMap, Raised> {
        let bad = |message: String| Raised::new(FaultKind::BadTensorMap, caller, message);
        if !map.is_multiple_of(64) {
            return Err(bad(format!("the tensor map's address {map:#x} is no multiple of 64")));
        }
        let context = &self.threads[caller.thread].context;
        let on_stack = (context.stack_begin..context.stack_end).contains(&map);
        if !on_stack {
            self.check_global(caller, map, 128, GlobalAccess::Read)?;
            self.check_acquired(caller, map)?;
        }
        // SAFETY: 128 bytes of the thread's own stack, where the kernel's parameters are, or of a live buffer.
        let bytes = unsafe { *(map as *const [u8; 128]) };
        let map = TensorMap::from_bytes(&bytes).ok_or_else(|| bad("the bytes are no tensor map".into()))?;
        if map.rank() != rank as usize {
            return Err(bad(format!("a copy of {rank} dimensions with a tensor map of {}", map.rank())));
        }
        Ok(map)
    }

    /// The pieces of a box, and its range in shared memory.
    fn tensor_pieces(
        &self,
        caller: Caller,
        rank: u32,
        map: Address,
        shared: u32,
        coordinates: &[i32],
    ) -> Result<(Vec<Piece>, TensorMap, u32), Raised> {
        let map = self.tensor_map(caller, rank, map)?;
        let first = i64::from(coordinates[0]) * i64::from(map.element().bytes());
        if first % i64::from(UNIT) != 0 {
            let message = format!(
                "the box starts {first} bytes into its rows; a GPU stops with an illegal instruction unless that is a multiple of {UNIT}"
            );
            return Err(Raised::new(FaultKind::BadTensorMap, caller, message));
        }
        let begin = self.shared.range(caller, shared, map.box_bytes(), TensorMap::SHARED_ALIGNMENT)?;
        let pieces = map.box_runs(coordinates).into_iter().map(|run| Piece {
            shared: map.swizzled(shared + run.offset) - super::memory::SHARED_BASE,
            bytes: UNIT,
            global: run.address as Address,
            skipped: run.skip,
            inside: run.bytes,
        });
        Ok((pieces.collect(), map, begin))
    }

    pub(crate) fn tensor_load(
        &mut self,
        caller: Caller,
        rank: u32,
        to: u32,
        map: Address,
        barrier: u32,
        coordinates: &[i32],
    ) -> Result<(), Raised> {
        let (pieces, map, begin) = self.tensor_pieces(caller, rank, map, to, coordinates)?;
        self.start_load(caller, "cp.async.bulk.tensor (load)", pieces, begin, map.box_bytes(), barrier)
    }

    pub(crate) fn bulk_load(
        &mut self,
        caller: Caller,
        to: u32,
        from: Address,
        bytes: u32,
        barrier: u32,
    ) -> Result<(), Raised> {
        let begin = self.bulk_range(caller, to, from, bytes)?;
        let piece = Piece { shared: begin, bytes, global: from, skipped: 0, inside: bytes };
        self.start_load(caller, "cp.async.bulk (load)", vec![piece], begin, bytes, barrier)
    }

    fn bulk_range(&self, caller: Caller, shared: u32, global: Address, bytes: u32) -> Result<u32, Raised> {
        if !bytes.is_multiple_of(UNIT) || !global.is_multiple_of(UNIT as usize) {
            let message = format!("a bulk copy of {bytes} bytes at {global:#x}; both must be multiples of {UNIT}");
            return Err(Raised::new(FaultKind::Misaligned, caller, message));
        }
        self.shared.range(caller, shared, bytes, UNIT)
    }

    fn start_load(
        &mut self,
        caller: Caller,
        name: &'static str,
        pieces: Vec<Piece>,
        begin: u32,
        bytes: u32,
        barrier: u32,
    ) -> Result<(), Raised> {
        self.mbarrier_for_copy(caller, barrier)?;
        self.mbarriers.refuse(caller, self.shared.address_of(begin), bytes)?;
        for piece in pieces.iter().filter(|piece| piece.inside > 0) {
            self.check_global(caller, piece.global, piece.inside, GlobalAccess::Read)?;
        }
        let operation = self.pending.next();
        let past = &self.threads[caller.thread].knowledge.past;
        let claimed = self.shared.shadow.begin_write(begin, bytes, operation, past);
        claimed.map_err(|conflict| self.conflict(caller, "a bulk copy writes", conflict))?;
        self.start(caller, Work::Load(BulkLoad { name, pieces, begin, bytes, barrier }));
        Ok(())
    }

    pub(crate) fn land_load(&mut self, by: Caller, load: &BulkLoad) -> Result<(), Raised> {
        for piece in &load.pieces {
            let mut bytes = vec![0; piece.bytes as usize];
            if piece.inside > 0 {
                let inside = &mut bytes[piece.skipped as usize..(piece.skipped + piece.inside) as usize];
                // SAFETY: checked to lie in a live buffer when the copy was issued; buffers outlive the launch.
                unsafe { inside.as_mut_ptr().copy_from_nonoverlapping(piece.global as *const u8, inside.len()) };
            }
            self.shared.write(piece.shared, &bytes);
        }
        let event = self.mbarrier_receive(by, load.barrier, load.bytes)?;
        self.shared.shadow.finish_write(load.begin, load.bytes, event, false);
        Ok(())
    }

    pub(crate) fn tensor_store(
        &mut self,
        caller: Caller,
        rank: u32,
        map: Address,
        from: u32,
        coordinates: &[i32],
        add: bool,
    ) -> Result<(), Raised> {
        if let Some(negative) = coordinates.iter().find(|&&coordinate| coordinate < 0) {
            let message = format!("a store at coordinate {negative}; a GPU stops with an illegal instruction");
            return Err(Raised::new(FaultKind::BadTensorMap, caller, message));
        }
        let (mut pieces, map, _) = self.tensor_pieces(caller, rank, map, from, coordinates)?;
        // the last piece of a row is written whole, also where the tensor ends within it
        pieces.iter_mut().filter(|piece| piece.inside > 0).for_each(|piece| piece.inside = UNIT);
        let combine = if add { Combine::Add(map.element()) } else { Combine::Replace };
        let name = if add { "cp.reduce.async.bulk.tensor" } else { "cp.async.bulk.tensor (store)" };
        self.start_store(caller, BulkStore::new(name, pieces, combine))
    }

    pub(crate) fn bulk_store(
        &mut self,
        caller: Caller,
        to: Address,
        from: u32,
        bytes: u32,
        add: bool,
    ) -> Result<(), Raised> {
        let begin = self.bulk_range(caller, from, to, bytes)?;
        let piece = Piece { shared: begin, bytes, global: to, skipped: 0, inside: bytes };
        let combine = if add { Combine::Add(ElementType::F32) } else { Combine::Replace };
        let name = if add { "cp.reduce.async.bulk" } else { "cp.async.bulk (store)" };
        self.start_store(caller, BulkStore::new(name, [piece], combine))
    }

    fn start_store(&mut self, caller: Caller, store: BulkStore) -> Result<(), Raised> {
        let access = if store.combine == Combine::Replace { GlobalAccess::Write } else { GlobalAccess::Add };
        for piece in store.pieces.iter() {
            self.check_global_in_flight(caller, piece.global, piece.inside, access)?;
        }
        let operation = self.pending.next();
        for piece in store.pieces.iter() {
            let knowledge = &self.threads[caller.thread].knowledge;
            let claimed = self.shared.shadow.begin_read(piece.shared, piece.bytes, operation, knowledge);
            claimed.map_err(|conflict| self.conflict(caller, "a bulk copy reads", conflict))?;
        }
        self.start(caller, Work::Store(store));
        self.threads[caller.thread].bulk.open.push(operation);
        self.threads[caller.thread].bulk_writes.open.push(operation);
        Ok(())
    }

    /// The bytes of shared memory that pieces write.
    fn bytes_of(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut all = vec![];
        for piece in pieces {
            let mut bytes = vec![0; piece.bytes as usize];
            self.shared.read(piece.shared, &mut bytes);
            all.extend_from_slice(&bytes[piece.skipped as usize..(piece.skipped + piece.inside) as usize]);
        }
        all
    }

    pub(crate) fn land_store(&mut self, store: &BulkStore) {
        let bytes = store.read.clone().unwrap_or_else(|| self.bytes_of(&store.pieces).into());
        let mut rest = &bytes[..];
        for piece in store.pieces.iter() {
            let (inside, others) = rest.split_at(piece.inside as usize);
            rest = others;
            match store.combine {
                // SAFETY: checked to lie in a live buffer when the copy was issued; buffers outlive the launch.
                Combine::Replace => unsafe {
                    (piece.global as *mut u8).copy_from_nonoverlapping(inside.as_ptr(), inside.len());
                },
                // SAFETY: as above.
                Combine::Add(element) => unsafe { atomic::add(element, piece.global, inside) },
            }
        }
    }

    pub(crate) fn bulk_commit(&mut self, caller: Caller) {
        self.threads[caller.thread].bulk.commit();
        self.threads[caller.thread].bulk_writes.commit();
    }

    /// `cp.async.bulk.wait_group`, or `.read` if `read`: then the writes may land later.
    pub(crate) fn bulk_wait(&mut self, caller: Caller, pending: u32, read: bool) -> Result<(), Raised> {
        let event = self.event(caller);
        for operation in self.threads[caller.thread].bulk.take(pending) {
            let Some(store) = self.pending.store(operation) else { continue };
            let pieces = store.pieces.clone();
            if read {
                let bytes = self.bytes_of(&pieces).into();
                self.pending.store(operation).expect("just found").read = Some(bytes);
            } else {
                self.land(operation)?;
            }
            for piece in pieces.iter() {
                self.shared.shadow.finish_read(piece.shared, piece.bytes, operation, event);
            }
        }
        if read {
            return Ok(());
        }
        for operation in self.threads[caller.thread].bulk_writes.take(pending) {
            if let Some(Work::Store(store)) = self.finish(operation)? {
                store.pieces.iter().for_each(|piece| self.global_is_written(caller, piece.global, piece.inside));
            }
        }
        Ok(())
    }

    /// The block ends: what was waited for with `.read` needs nothing of it.
    pub(crate) fn land_stores_that_were_read(&mut self) -> Result<(), Raised> {
        self.pending.stores_that_were_read().into_iter().try_for_each(|operation| self.finish(operation).map(drop))
    }
}
