//! `wgmma`: matrix products of a warpgroup that read shared memory and write registers on their own time.
//!
//! The accumulators of unfinished products hold poison, and no thread may touch them. Operands in shared memory are claimed until
//! the wait. A register operand A is taken when the product is issued: whoever changes it earlier than the wait is told by ptxas
//! (C7513), which then waits itself.
//!
//! Invariants: products of a warpgroup land in the order of their issue; accumulators get their values when the last unlanded
//! product on them has landed.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::clock::Actor;
use super::pending::{Groups, Work};
use super::shadow::Operation;
use super::{Block, Caller, Raised, Step, WARPGROUP, Waiting};
use crate::abi::{Address, WgmmaArguments};
use crate::fault::FaultKind;
use crate::machine::memory::SHARED_BASE;
use crate::numeric::descriptor::{Descriptor, Major, Piece};
use crate::numeric::element::Element;
use crate::numeric::wgmma::ROWS;
use crate::numeric::{fragment, wgmma};

/// Bytes of a piece of an operand.
const PIECE: u32 = 16;

/// One product.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    group: usize,
    n: usize,
    element: Element,
    a: OperandA,
    b: SharedOperand,
    accumulate: bool,
    signs: [i32; 2],
    /// The accumulators, by the first register of the first thread.
    accumulators: Address,
}

#[derive(Clone, Debug)]
enum OperandA {
    /// 64 x 16 values.
    Registers(Vec<f32>),
    Shared(SharedOperand),
}

/// An operand in shared memory.
#[derive(Clone, Debug)]
struct SharedOperand {
    major: Major,
    pieces: Vec<Piece>,
}

/// The registers of unfinished products.
#[derive(Debug)]
struct Accumulators {
    first: Address,
    n: usize,
    /// 64 x n.
    value: Vec<f32>,
    /// Of each thread, where its registers are.
    registers: Vec<Vec<*mut f32>>,
    unlanded: u32,
    unfinished: u32,
    issued: Caller,
}

/// What a warpgroup has under way.
#[derive(Debug)]
pub(crate) struct Warpgroup {
    agent: Actor,
    time: u32,
    groups: Groups,
    accumulators: Vec<Accumulators>,
    /// Of each thread: how many `wgmma.fence`s it has executed.
    fences: Vec<u32>,
    /// Of each thread: after which fence each word of its stack was last written, from 1.
    written: Vec<Vec<u32>>,
}

impl Warpgroup {
    pub(crate) fn new(agent: Actor) -> Warpgroup {
        Warpgroup {
            agent,
            time: 0,
            groups: Groups::default(),
            accumulators: vec![],
            fences: vec![0; WARPGROUP],
            written: vec![vec![]; WARPGROUP],
        }
    }

    /// Work that nobody has waited for.
    pub(crate) fn unfinished(&self) -> bool {
        !self.accumulators.is_empty()
    }
}

fn key(arguments: &WgmmaArguments) -> u64 {
    let mut hasher = DefaultHasher::new();
    let a = (arguments.a_is_shared != 0).then_some(arguments.a_descriptor);
    let shape = (arguments.n, arguments.element, arguments.a_transposed, arguments.b_transposed);
    (a, arguments.b_descriptor, shape, arguments.accumulate != 0, arguments.a_sign, arguments.b_sign).hash(&mut hasher);
    hasher.finish()
}

impl Block {
    /// An access to the caller's own stack, which the simulator watches because of unfinished products.
    pub(crate) fn access_registers(
        &mut self,
        caller: Caller,
        address: Address,
        bytes: u32,
        write: bool,
    ) -> Result<(), Raised> {
        let (group, index) = (caller.thread / WARPGROUP, caller.thread % WARPGROUP);
        let Some(warpgroup) = self.warpgroups.get_mut(group) else { return Ok(()) };
        let end = address + bytes as usize;
        for accumulators in &warpgroup.accumulators {
            let registers = &accumulators.registers[index];
            // one array, as kernels have it, makes one range
            let (low, high) = (registers[0] as Address, registers[registers.len() - 1] as Address);
            let near = address < low.max(high) + 4 && end > low.min(high);
            if near && registers.iter().any(|&register| address < register as Address + 4 && end > register as Address)
            {
                let verb = if write { "writes" } else { "reads" };
                let message = format!("{verb} an accumulator of a wgmma that no wgmma.wait_group has waited for");
                let raised = Raised::new(FaultKind::AccumulatorInFlight, caller, message);
                let issued = accumulators.issued;
                return Err(raised.with("issued by", Some(issued.thread), issued.pc));
            }
        }
        if write {
            let context = &self.threads[caller.thread].context;
            let words = (context.stack_end - context.stack_begin).div_ceil(4);
            let (first, last) = ((address - context.stack_begin) / 4, (end - context.stack_begin).div_ceil(4));
            let fences = warpgroup.fences[index];
            let written = &mut warpgroup.written[index];
            if written.is_empty() {
                written.resize(words, 0);
            }
            written[first..last.min(words)].fill(fences + 1);
        }
        Ok(())
    }

    pub(crate) fn wgmma_fence(&mut self, caller: Caller) -> Result<(), Raised> {
        let (group, index) = (caller.thread / WARPGROUP, caller.thread % WARPGROUP);
        let Some(warpgroup) = self.warpgroups.get_mut(group) else {
            return Err(Raised::new(
                FaultKind::Divergence,
                caller,
                "wgmma.fence in a warpgroup of fewer than 128 threads",
            ));
        };
        warpgroup.fences[index] += 1;
        self.threads[caller.thread].context.watch_stack = 1;
        Ok(())
    }

    pub(crate) fn wgmma(&mut self, caller: Caller, arguments: &WgmmaArguments) -> Result<Step<()>, Raised> {
        const NAME: &str = "wgmma.mma_async";
        let n = arguments.n as usize;
        let payload = std::ptr::from_ref(arguments) as usize;
        let Some(members) = self.gather_warpgroup(caller, NAME, key(arguments), payload)? else {
            return Ok(Step::Wait(Waiting::Collective(NAME)));
        };
        let group = caller.thread / WARPGROUP;
        let element = if arguments.element == 0 { Element::F16 } else { Element::Bf16 };
        // SAFETY: a member's arguments lie on its stack, and it is suspended or is the caller.
        let of = |member: &super::warp::Member| unsafe { &*(member.payload as *const WgmmaArguments) };
        let registers: Vec<Vec<*mut f32>> = members
            .iter()
            .map(|member| {
                let arguments = of(member);
                // SAFETY: the kernel passes n / 2 pointers to its registers.
                unsafe { std::slice::from_raw_parts(arguments.accumulators, n / 2) }.to_vec()
            })
            .collect();
        for (index, member) in members.iter().enumerate() {
            self.check_wgmma_fence(group, index, Caller { thread: member.thread, pc: member.pc }, &registers[index])?;
        }

        // all threads of the warpgroup must know that the operands are there
        let mut knowledge = self.threads[caller.thread].knowledge.clone();
        members.iter().for_each(|member| knowledge.intersect(&self.threads[member.thread].knowledge));
        let operation = self.pending.next();
        let b =
            self.claim(caller, operation, &knowledge, arguments.b_descriptor, n, arguments.b_transposed != 0, "B")?;
        let a = if arguments.a_is_shared != 0 {
            OperandA::Shared(self.claim(
                caller,
                operation,
                &knowledge,
                arguments.a_descriptor,
                ROWS,
                arguments.a_transposed != 0,
                "A",
            )?)
        } else {
            let mut registers = [[0; 4]; WARPGROUP];
            registers.iter_mut().zip(&members).for_each(|(slot, member)| *slot = of(member).a_registers);
            OperandA::Registers(wgmma::operand_from_registers(element, &registers))
        };
        let accumulators = self.hold_accumulators(group, n, caller, registers);
        let product = Product {
            group,
            n,
            element,
            a,
            b,
            accumulate: arguments.accumulate != 0,
            signs: [arguments.a_sign, arguments.b_sign],
            accumulators,
        };
        self.start(caller, Work::Product(product));
        self.warpgroups[group].groups.open.push(operation);
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    fn check_wgmma_fence(&self, group: usize, index: usize, who: Caller, registers: &[*mut f32]) -> Result<(), Raised> {
        let warpgroup = &self.warpgroups[group];
        let fences = warpgroup.fences[index];
        let first = registers[0] as Address;
        let in_flight = warpgroup.accumulators.iter().any(|held| held.registers[index][0] as Address == first);
        let begin = self.threads[who.thread].context.stack_begin;
        let is_late = |&&register: &&*mut f32| {
            let word = (register as Address).wrapping_sub(begin) / 4;
            warpgroup.written[index].get(word).is_some_and(|&written| written > fences)
        };
        if fences == 0 || !in_flight && registers.iter().any(|register| is_late(&register)) {
            let message = "an accumulator was written after the last wgmma.fence; a fence must come before the wgmma";
            return Err(Raised::new(FaultKind::MissingWgmmaFence, who, message));
        }
        Ok(())
    }

    /// Claims an operand in shared memory.
    #[allow(clippy::too_many_arguments, reason = "who, for what, and the operand's three properties")]
    fn claim(
        &mut self,
        caller: Caller,
        operation: Operation,
        knowledge: &super::Knowledge,
        descriptor: u64,
        extent: usize,
        transposed: bool,
        name: &str,
    ) -> Result<SharedOperand, Raised> {
        let bad = |problem| Raised::new(FaultKind::BadDescriptor, caller, format!("operand {name}: {problem}"));
        let major = if transposed { Major::Rows } else { Major::Depth };
        let descriptor = Descriptor::decode(descriptor).map_err(bad)?;
        let pieces = descriptor.pieces(major, extent as u32).map_err(bad)?;
        for piece in &pieces {
            let offset = self.shared.range(caller, piece.address, PIECE, PIECE)?;
            let claimed = self.shared.shadow.begin_read(offset, PIECE, operation, knowledge);
            claimed.map_err(|conflict| self.conflict(caller, &format!("{name} of a wgmma reads"), conflict))?;
        }
        Ok(SharedOperand { major, pieces })
    }

    /// Takes the accumulators away from their threads until the wait; their name.
    fn hold_accumulators(&mut self, group: usize, n: usize, caller: Caller, registers: Vec<Vec<*mut f32>>) -> Address {
        let first = registers[0][0] as Address;
        let held = &mut self.warpgroups[group].accumulators;
        let accumulators = match held.iter().position(|held| held.first == first && held.n == n) {
            Some(at) => &mut held[at],
            None => {
                let mut value = vec![0.0; ROWS * n];
                for (index, registers) in registers.iter().enumerate() {
                    for (register, pointer) in registers.iter().enumerate() {
                        let (row, column) = fragment::wgmma_accumulator(index, register);
                        // SAFETY: a register of a suspended thread.
                        value[row * n + column] = unsafe { **pointer };
                    }
                }
                let accumulators =
                    Accumulators { first, n, value, registers, unlanded: 0, unfinished: 0, issued: caller };
                held.push(accumulators);
                held.last_mut().expect("just pushed")
            }
        };
        for pointer in accumulators.registers.iter().flatten() {
            // SAFETY: as above.
            unsafe { **pointer = f32::NAN };
        }
        accumulators.unlanded += 1;
        accumulators.unfinished += 1;
        first
    }

    fn operand(&self, element: Element, operand: &SharedOperand) -> Vec<f32> {
        wgmma::operand_from_shared(element, operand.major, &operand.pieces, |address| {
            let mut bytes = [0; PIECE as usize];
            self.shared.read(address - SHARED_BASE, &mut bytes);
            bytes
        })
    }

    pub(crate) fn land_product(&mut self, operation: Operation, product: &Product) -> Result<(), Raised> {
        // in the order of issue
        let groups = &self.warpgroups[product.group].groups;
        let earlier: Vec<Operation> =
            groups.committed.iter().flatten().chain(&groups.open).copied().filter(|&other| other < operation).collect();
        for other in earlier {
            self.land(other)?;
        }
        let b = self.operand(product.element, &product.b);
        let a = match &product.a {
            OperandA::Registers(values) => values.clone(),
            OperandA::Shared(operand) => self.operand(product.element, operand),
        };
        let held = &mut self.warpgroups[product.group].accumulators;
        let found = held.iter_mut().find(|held| held.first == product.accumulators && held.n == product.n);
        let accumulators = found.expect("held until the wait");
        wgmma::multiply(product.n, &a, &b, product.accumulate, product.signs, &mut accumulators.value);
        accumulators.unlanded -= 1;
        if accumulators.unlanded == 0 {
            for (index, registers) in accumulators.registers.iter().enumerate() {
                for (register, pointer) in registers.iter().enumerate() {
                    let (row, column) = fragment::wgmma_accumulator(index, register);
                    // SAFETY: a register of a suspended thread; nobody may touch it before the wait.
                    unsafe { **pointer = accumulators.value[row * accumulators.n + column] };
                }
            }
        }
        Ok(())
    }

    pub(crate) fn wgmma_commit(&mut self, caller: Caller) -> Result<Step<()>, Raised> {
        const NAME: &str = "wgmma.commit_group";
        let Some(members) = self.gather_warpgroup(caller, NAME, 0, 0)? else {
            return Ok(Step::Wait(Waiting::Collective(NAME)));
        };
        self.warpgroups[caller.thread / WARPGROUP].groups.commit();
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    pub(crate) fn wgmma_wait(&mut self, caller: Caller, pending: u32) -> Result<Step<()>, Raised> {
        const NAME: &str = "wgmma.wait_group";
        let Some(members) = self.gather_warpgroup(caller, NAME, u64::from(pending), 0)? else {
            return Ok(Step::Wait(Waiting::Collective(NAME)));
        };
        let group = caller.thread / WARPGROUP;
        let finished = self.warpgroups[group].groups.take(pending);
        let warpgroup = &mut self.warpgroups[group];
        warpgroup.time += 1;
        let event = super::shadow::event(warpgroup.agent, warpgroup.time, caller.pc);
        for operation in finished {
            let Some(Work::Product(product)) = self.finish(operation)? else { continue };
            let a: &[Piece] = match &product.a {
                OperandA::Shared(operand) => &operand.pieces,
                OperandA::Registers(_) => &[],
            };
            for piece in product.b.pieces.iter().chain(a) {
                self.shared.shadow.finish_read(piece.address - SHARED_BASE, PIECE, operation, event);
            }
            let held = &mut self.warpgroups[group].accumulators;
            held.iter_mut()
                .filter(|held| held.first == product.accumulators && held.n == product.n)
                .for_each(|held| held.unfinished -= 1);
            held.retain(|held| held.unfinished > 0);
        }
        for member in &members {
            self.threads[member.thread].knowledge.past.set(event.epoch.actor, event.epoch.time);
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }
}
