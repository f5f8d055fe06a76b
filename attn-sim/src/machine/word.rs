//! Words of global memory by which blocks wait for each other: strong loads and stores, and atomic operations on integers.
//!
//! A release on a word keeps what its thread knows; an acquire of the word learns it. A relaxed store after a fence releases what the
//! thread knew at the fence, a relaxed load acquires at the next fence; atomic operations pass on what they find.
//!
//! A load that sees nothing new is a poll: its thread runs again when the word has changed, or when no other thread of the block can
//! run. While all that a block can do is poll, its OS thread is left to other blocks, and [`super::progress`] says when to give up.
//!
//! Invariants: the value of a word and what was released on it change together, under one lock; a poll is no operation of its block.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::Others;
use super::global::GlobalAccess;
use super::progress::{Claim, Progress, Verdict};
use super::{Block, Caller, Raised, State, Step, Waiting};
use crate::abi::Address;
use crate::fault::FaultKind;

/// The qualifiers of a strong access, as the kernel passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    acquire: bool,
    release: bool,
    /// Whether the access is atomic to other blocks, too.
    wide: bool,
}

impl Order {
    pub(crate) fn new(bits: u32) -> Order {
        Order { acquire: bits & 1 != 0, release: bits & 2 != 0, wide: bits & 4 != 0 }
    }
}

/// What an atomic operation puts in the place of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    /// Counts up to the operand, then from 0.
    Increment,
    Exchange,
    /// Exchanges where the word is as compared.
    CompareExchange,
}

impl Change {
    pub(crate) fn new(number: u32) -> Change {
        match number {
            0 => Change::Add,
            1 => Change::Increment,
            2 => Change::Exchange,
            _ => Change::CompareExchange,
        }
    }

    fn apply(self, old: u32, operand: u32, compared: u32) -> u32 {
        match self {
            Change::Add => old.wrapping_add(operand),
            Change::Increment if old >= operand => 0,
            Change::Increment => old + 1,
            Change::CompareExchange if old != compared => old,
            Change::Exchange | Change::CompareExchange => operand,
        }
    }
}

/// What blocks of a launch share beside memory.
#[derive(Debug)]
pub(crate) struct Words {
    released: BTreeMap<Address, Arc<Others>>,
    pub(crate) progress: Progress,
}

/// The words of a launch. Clones are the same.
#[derive(Clone)]
pub(crate) struct SharedWords(Arc<Mutex<Words>>);

impl SharedWords {
    pub(crate) fn new(blocks: u32) -> SharedWords {
        SharedWords(Arc::new(Mutex::new(Words { released: BTreeMap::new(), progress: Progress::new(blocks) })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread has to do with words.
#[derive(Debug, Default)]
pub(crate) struct WordUser {
    /// What its last fence released, for relaxed stores.
    fenced: Option<Arc<Others>>,
    /// What its relaxed loads found, for the next fence.
    found: Others,
    /// The last values that it saw.
    seen: Vec<(Address, u128)>,
}

/// Values that a thread remembers. A loop may poll several words in turn.
const SEEN: usize = 8;

impl WordUser {
    /// Whether the thread sees a value for the first time.
    fn sees(&mut self, address: Address, value: u128) -> bool {
        match self.seen.iter_mut().find(|(seen, _)| *seen == address) {
            Some((_, seen)) => std::mem::replace(seen, value) != value,
            None => {
                if self.seen.len() == SEEN {
                    self.seen.remove(0);
                }
                self.seen.push((address, value));
                true
            }
        }
    }
}

/// How long a block has been able to do nothing but poll.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    effects: u64,
    rounds: u32,
    /// The changes that there were before the last round.
    seen: Option<u64>,
    pub(crate) claim: Claim,
    since: Option<Instant>,
}

/// Rounds of polls before an OS thread sleeps between them.
const EAGER: u32 = 64;
const NAP: Duration = Duration::from_micros(50);

/// Reads a word as other OS threads may write it.
///
/// # Safety
/// So many bytes must lie there in a live buffer, aligned to their number.
unsafe fn read(address: Address, bytes: u32) -> u128 {
    // SAFETY: as promised by the caller.
    unsafe {
        match bytes {
            1 => u128::from(AtomicU8::from_ptr(address as *mut u8).load(Ordering::Relaxed)),
            2 => u128::from(AtomicU16::from_ptr(address as *mut u16).load(Ordering::Relaxed)),
            4 => u128::from(AtomicU32::from_ptr(address as *mut u32).load(Ordering::Relaxed)),
            8 => u128::from(AtomicU64::from_ptr(address as *mut u64).load(Ordering::Relaxed)),
            _ => read(address, 8) | read(address + 8, 8) << 64,
        }
    }
}

/// Writes it.
///
/// # Safety
/// As for [`read`].
unsafe fn write(address: Address, bytes: u32, value: u128) {
    // SAFETY: as promised by the caller.
    unsafe {
        match bytes {
            1 => AtomicU8::from_ptr(address as *mut u8).store(value as u8, Ordering::Relaxed),
            2 => AtomicU16::from_ptr(address as *mut u16).store(value as u16, Ordering::Relaxed),
            4 => AtomicU32::from_ptr(address as *mut u32).store(value as u32, Ordering::Relaxed),
            8 => AtomicU64::from_ptr(address as *mut u64).store(value as u64, Ordering::Relaxed),
            _ => {
                write(address, 8, value & u128::from(u64::MAX));
                write(address + 8, 8, value >> 64);
            }
        }
    }
}

impl Block {
    /// Checks an access to a word of global memory.
    fn check_word(
        &self,
        caller: Caller,
        address: Address,
        bytes: u32,
        order: Order,
        [narrow, wide]: [GlobalAccess; 2],
    ) -> Result<(), Raised> {
        self.check_global(caller, address, bytes, if order.wide { wide } else { narrow })?;
        if address.is_multiple_of(bytes as usize) {
            return Ok(());
        }
        let message = format!("{bytes} bytes at {address:#x}, which is no multiple of {bytes}");
        Err(Raised::new(FaultKind::Misaligned, caller, message))
    }

    /// Whether a generic address leads to shared memory or the caller's stack, where order is as for other accesses.
    fn is_own(&self, caller: Caller, address: Address) -> bool {
        let context = &self.threads[caller.thread].context;
        self.shared.offset_of(address).is_some() || (context.stack_begin..context.stack_end).contains(&address)
    }

    /// A strong load; what it gives.
    pub(crate) fn load_strong(
        &mut self,
        caller: Caller,
        address: Address,
        bytes: u32,
        order: Order,
    ) -> Result<(u128, Step<()>), Raised> {
        if self.is_own(caller, address) {
            self.access(caller, address, bytes, false)?;
            // SAFETY: checked; the stack is aligned for what the compiler puts there.
            return Ok((unsafe { read(address, bytes) }, Step::Done(())));
        }
        self.check_word(caller, address, bytes, order, [GlobalAccess::Read, GlobalAccess::StrongRead])?;
        let words = self.global.words.lock();
        // SAFETY: checked to lie in a live buffer, aligned.
        let value = unsafe { read(address, bytes) };
        let released = words.released.get(&address).cloned();
        drop(words);
        if let Some(released) = released {
            self.find(caller, &released, order);
        }
        Ok((value, self.seen(caller, address, bytes, value)))
    }

    /// A strong store.
    pub(crate) fn store_strong(
        &mut self,
        caller: Caller,
        address: Address,
        bytes: u32,
        value: u128,
        order: Order,
    ) -> Result<(), Raised> {
        if self.is_own(caller, address) {
            self.access(caller, address, bytes, true)?;
            // SAFETY: as in `load_strong`.
            unsafe { write(address, bytes, value) };
            return Ok(());
        }
        self.check_word(caller, address, bytes, order, [GlobalAccess::Write, GlobalAccess::StrongWrite])?;
        let released = self.offer(caller, order);
        let mut words = self.global.words.lock();
        // SAFETY: checked to lie in a live buffer, aligned.
        unsafe {
            if read(address, bytes) != value {
                write(address, bytes, value);
                words.progress.change();
            }
        }
        match released {
            Some(released) => words.released.insert(address, released),
            None => words.released.remove(&address),
        };
        drop(words);
        self.note(caller, address, || format!("stores {value}"));
        Ok(())
    }

    /// An atomic operation on 32 bits; what they were.
    #[allow(clippy::too_many_arguments, reason = "who, where, and the operation's four properties")]
    pub(crate) fn change_word(
        &mut self,
        caller: Caller,
        address: Address,
        change: Change,
        operand: u32,
        compared: u32,
        order: Order,
    ) -> Result<(u32, Step<()>), Raised> {
        self.check_word(caller, address, 4, order, [GlobalAccess::Write, GlobalAccess::Add])?;
        let offered = self.offer(caller, order);
        let mut words = self.global.words.lock();
        // SAFETY: checked to lie in a live buffer, aligned. Additions of floats to the same word take no lock.
        let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
        let next = |old| Some(change.apply(old, operand, compared));
        let old = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("the update always succeeds");
        let new = change.apply(old, operand, compared);
        let found = words.released.get(&address).cloned();
        if let Some(mut offered) = offered {
            if let Some(found) = &found {
                Arc::make_mut(&mut offered).join(found);
            }
            words.released.insert(address, offered);
        }
        if new != old {
            words.progress.change();
        }
        drop(words);
        if let Some(found) = found {
            self.find(caller, &found, order);
        }
        if new == old {
            return Ok((old, self.seen(caller, address, 4, u128::from(old))));
        }
        self.note(caller, address, || format!("changes {old} to {new}"));
        Ok((old, Step::Done(())))
    }

    /// A fence that reaches other blocks.
    pub(crate) fn fence_words(&mut self, caller: Caller) {
        let found = std::mem::take(&mut self.threads[caller.thread].words.found);
        self.learn(caller, &found);
        self.threads[caller.thread].words.fenced = Some(self.release_all(caller));
    }

    /// What the caller knows, for others to acquire.
    fn release_all(&mut self, caller: Caller) -> Arc<Others> {
        let knowledge = &self.threads[caller.thread].knowledge;
        let released = Arc::new(knowledge.others.with(self.number, &knowledge.past));
        self.tick(caller.thread);
        released
    }

    /// What a store or an atomic operation leaves on its word.
    fn offer(&mut self, caller: Caller, order: Order) -> Option<Arc<Others>> {
        if order.release { Some(self.release_all(caller)) } else { self.threads[caller.thread].words.fenced.clone() }
    }

    /// What a load or an atomic operation takes from its word.
    fn find(&mut self, caller: Caller, released: &Others, order: Order) {
        if order.acquire {
            self.learn(caller, released);
        } else {
            self.threads[caller.thread].words.found.join(released);
        }
    }

    fn learn(&mut self, caller: Caller, released: &Others) {
        let knowledge = &mut self.threads[caller.thread].knowledge;
        knowledge.others.join(released);
        // another thread of this block may have released it
        if let Some(own) = released.of(self.number) {
            knowledge.past.join(own);
        }
    }

    /// After a load: a thread that sees what it has seen before only polls.
    fn seen(&mut self, caller: Caller, address: Address, bytes: u32, value: u128) -> Step<()> {
        if self.threads[caller.thread].words.sees(address, value) {
            self.note(caller, address, || format!("sees {value}"));
            return Step::Done(());
        }
        Step::Poll((), Waiting::Word { address, bytes, value })
    }

    fn note(&mut self, caller: Caller, address: Address, what: impl FnOnce() -> String) {
        let (step, global) = (self.schedule.step, &self.global);
        self.trace.note(step, caller, || format!("{} at {}", what(), global.place(address)));
    }

    /// Lets threads whose words have changed run; whether there are any.
    pub(crate) fn wake_pollers(&mut self) -> bool {
        let changed = |&thread: &usize| match self.threads[thread].state {
            // SAFETY: checked when the thread polled; buffers outlive the launch.
            State::Polling(Waiting::Word { address, bytes, value }, _) => unsafe { read(address, bytes) != value },
            _ => false,
        };
        let (woken, pollers) = self.pollers.iter().partition(|&thread| changed(thread));
        self.pollers = pollers;
        self.poll(woken)
    }

    /// Lets all pollers run.
    pub(crate) fn poll_again(&mut self) {
        let pollers = std::mem::take(&mut self.pollers);
        self.poll(pollers);
    }

    fn poll(&mut self, threads: Vec<usize>) -> bool {
        for &thread in &threads {
            self.threads[thread].state = State::Runnable;
            self.schedule.ready(thread);
        }
        !threads.is_empty()
    }

    /// Nothing but polls is left to this block: waits for other blocks a moment, and says what to do then.
    pub(crate) fn stall(&mut self) -> Verdict {
        let effects = self.operations - self.quiet;
        let mut words = self.global.words.lock();
        let progress = &mut words.progress;
        if effects != self.stall.effects {
            progress.withdraw(self.stall.claim.take());
            self.stall = Stall { effects, ..Stall::default() };
        }
        // since the last call every poller has run
        if self.stall.seen == Some(progress.changes()) {
            progress.claim(&mut self.stall.claim);
        }
        self.stall.seen = Some(progress.changes());
        let verdict = match progress.verdict() {
            Verdict::Unless(lasting) => {
                let since = *self.stall.since.get_or_insert_with(Instant::now);
                if since.elapsed() < lasting {
                    Verdict::Again
                } else {
                    progress.give_up();
                    Verdict::Deadlock
                }
            }
            verdict => {
                self.stall.since = None;
                verdict
            }
        };
        drop(words);
        if verdict == Verdict::Again {
            self.stall.rounds += 1;
            if self.stall.rounds < EAGER { std::thread::yield_now() } else { std::thread::sleep(NAP) }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_as_ptx_says() {
        assert_eq!(Change::Add.apply(u32::MAX, 3, 0), 2);
        let mut counted = vec![0];
        (0..4).for_each(|at| counted.push(Change::Increment.apply(counted[at], 2, 0)));
        assert_eq!(counted, [0, 1, 2, 0, 1]);
        assert_eq!(Change::Increment.apply(7, 2, 0), 0);
        assert_eq!(Change::Exchange.apply(1, 2, 9), 2);
        assert_eq!([1, 3].map(|old| Change::CompareExchange.apply(old, 2, 1)), [2, 3]);
    }

    #[test]
    fn words_are_read_as_they_were_written() {
        let mut memory = [0u128; 2];
        let at = memory.as_mut_ptr() as Address;
        for bytes in [1, 2, 4, 8, 16] {
            let value = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_01ff & (u128::MAX >> (128 - 8 * bytes));
            // SAFETY: 16 bytes, aligned, and no others are written.
            unsafe {
                write(at, bytes, u128::MAX);
                write(at, bytes, value);
                assert_eq!(read(at, bytes), value);
            }
        }
        assert_eq!(memory[1], 0);
    }

    #[test]
    fn what_was_seen_is_seen_again() {
        let mut user = WordUser::default();
        assert!(user.sees(8, 1) && !user.sees(8, 1) && user.sees(16, 1) && !user.sees(8, 1));
        assert!(user.sees(8, 2) && !user.sees(8, 2) && user.sees(8, 1));
        (0..SEEN).for_each(|word| assert!(user.sees(100 + word, 0)));
        assert!(user.sees(8, 1));
    }
}
