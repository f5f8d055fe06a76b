//! What is known about every four bytes of a block's shared memory: who wrote and read them last, which unfinished operations
//! write or read them, and whether anything was ever written.
//!
//! A plain write must come after the last write and all reads since; a plain read after the last write. Asynchronous operations
//! claim what they write and read from their issue until something waits for them.
//!
//! Invariant: the shadow holds at least one write and all reads since that are not ordered before a later one of the same actor;
//! it never reports two accesses that are ordered. Writes by two actors to different bytes of one word keep the later alone.

use super::clock::{Actor, Clock, Epoch, Knowledge};
use crate::abi::Address;
use crate::fault::FaultKind;

/// Bytes of a word, the unit of the shadow.
pub(crate) const WORD: u32 = 4;

/// The number of an unfinished operation, from 1.
pub(crate) type Operation = u32;

/// An access that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) epoch: Epoch,
    pub(crate) pc: Address,
}

#[derive(Clone, Debug, Default)]
struct Word {
    /// The last write and the bytes that it wrote.
    write: Option<(Event, u8)>,
    /// Whether the last write went through the generic proxy, which the asynchronous proxy does not see by itself.
    generic: bool,
    /// Bytes that were ever written.
    initialized: u8,
    reads: Vec<Event>,
    /// The unfinished operation that writes here.
    writer: Option<Operation>,
    /// Unfinished operations that read here.
    readers: Vec<Operation>,
}

/// Which engine an access goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Loads, stores and everything else that a thread does.
    Generic,
    /// Bulk copies and tensor cores that read shared memory.
    Async,
}

/// Why an access is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict {
    pub(crate) kind: FaultKind,
    /// The offset of the word.
    pub(crate) offset: u32,
    /// The earlier access, where there was one.
    pub(crate) earlier: Option<(&'static str, Event)>,
    /// The unfinished operation, where there is one.
    pub(crate) operation: Option<Operation>,
}

/// The shadow of a shared memory.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    words: Vec<Word>,
}

/// The words that `bytes` from `offset` touch, and of each the bytes.
fn words(offset: u32, bytes: u32) -> impl Iterator<Item = (u32, u8)> {
    let end = offset + bytes;
    (offset / WORD..end.div_ceil(WORD)).map(move |word| {
        let first = offset.max(word * WORD) - word * WORD;
        let last = end.min((word + 1) * WORD) - word * WORD;
        (word, ((1u16 << last) - (1u16 << first)) as u8)
    })
}

impl Shadow {
    /// Forgets everything; `bytes` of memory from now on.
    pub(crate) fn reset(&mut self, bytes: u32) {
        self.words.clear();
        self.words.resize(bytes.div_ceil(WORD) as usize, Word::default());
    }

    /// A read by someone who knows `knowledge`.
    pub(crate) fn read(
        &mut self,
        offset: u32,
        bytes: u32,
        event: Event,
        knowledge: &Knowledge,
        proxy: Proxy,
    ) -> Result<(), Conflict> {
        for (at, mask) in words(offset, bytes) {
            let word = &mut self.words[at as usize];
            check_read(word, mask, knowledge, proxy).map_err(|conflict| conflict.at(at))?;
            match word.reads.iter_mut().rev().find(|read| read.epoch.actor == event.epoch.actor) {
                Some(read) => *read = event,
                None => word.reads.push(event),
            }
        }
        Ok(())
    }

    /// A write by someone who knows `past`.
    pub(crate) fn write(&mut self, offset: u32, bytes: u32, event: Event, past: &Clock) -> Result<(), Conflict> {
        for (at, mask) in words(offset, bytes) {
            let word = &mut self.words[at as usize];
            check_write(word, mask, past).map_err(|conflict| conflict.at(at))?;
            word.write = Some((event, mask));
            word.generic = true;
            word.initialized |= mask;
            word.reads.clear();
        }
        Ok(())
    }

    /// From now until [`Shadow::finish_write`], an operation writes here.
    pub(crate) fn begin_write(&mut self, offset: u32, bytes: u32, by: Operation, past: &Clock) -> Result<(), Conflict> {
        for (at, mask) in words(offset, bytes) {
            let word = &mut self.words[at as usize];
            check_write(word, mask, past).map_err(|conflict| conflict.at(at))?;
            word.writer = Some(by);
        }
        Ok(())
    }

    /// The operation has written, and `event` is when: whoever knows it may read.
    pub(crate) fn finish_write(&mut self, offset: u32, bytes: u32, event: Event, generic: bool) {
        for (at, mask) in words(offset, bytes) {
            let word = &mut self.words[at as usize];
            word.writer = None;
            word.write = Some((event, mask));
            word.generic = generic;
            word.initialized |= mask;
            word.reads.clear();
        }
    }

    /// From now until [`Shadow::finish_read`], an operation of the asynchronous proxy reads here.
    pub(crate) fn begin_read(
        &mut self,
        offset: u32,
        bytes: u32,
        by: Operation,
        knowledge: &Knowledge,
    ) -> Result<(), Conflict> {
        for (at, mask) in words(offset, bytes) {
            let word = &mut self.words[at as usize];
            check_read(word, mask, knowledge, Proxy::Async).map_err(|conflict| conflict.at(at))?;
            word.readers.push(by);
        }
        Ok(())
    }

    /// The operation has read.
    pub(crate) fn finish_read(&mut self, offset: u32, bytes: u32, by: Operation, event: Event) {
        for (at, _) in words(offset, bytes) {
            let word = &mut self.words[at as usize];
            if let Some(found) = word.readers.iter().position(|&reader| reader == by) {
                word.readers.swap_remove(found);
            }
            match word.reads.iter_mut().rev().find(|read| read.epoch.actor == event.epoch.actor) {
                Some(read) => *read = event,
                None => word.reads.push(event),
            }
        }
    }
}

/// A conflict whose word is not known yet.
struct Found {
    kind: FaultKind,
    earlier: Option<(&'static str, Event)>,
    operation: Option<Operation>,
}

impl Found {
    fn at(self, word: u32) -> Conflict {
        Conflict { kind: self.kind, offset: word * WORD, earlier: self.earlier, operation: self.operation }
    }
}

fn check_read(word: &Word, mask: u8, knowledge: &Knowledge, proxy: Proxy) -> Result<(), Found> {
    if word.writer.is_some() {
        return Err(Found { kind: FaultKind::CopyInFlight, earlier: None, operation: word.writer });
    }
    if word.initialized & mask != mask {
        return Err(Found { kind: FaultKind::Uninitialized, earlier: None, operation: None });
    }
    let Some((write, written)) = word.write else { return Ok(()) };
    if written & mask == 0 {
        return Ok(());
    }
    let conflict = |kind| Err(Found { kind, earlier: Some(("written by", write)), operation: None });
    if !knowledge.past.knows(write.epoch) {
        return conflict(FaultKind::Race);
    }
    if proxy == Proxy::Async && word.generic && !knowledge.published.knows(write.epoch) {
        return conflict(FaultKind::MissingProxyFence);
    }
    Ok(())
}

fn check_write(word: &Word, mask: u8, past: &Clock) -> Result<(), Found> {
    if let Some(&reader) = word.readers.first() {
        return Err(Found { kind: FaultKind::OverwrittenInFlight, earlier: None, operation: Some(reader) });
    }
    if word.writer.is_some() {
        return Err(Found { kind: FaultKind::CopyInFlight, earlier: None, operation: word.writer });
    }
    if let Some((write, written)) = word.write
        && written & mask != 0
        && !past.knows(write.epoch)
    {
        return Err(Found { kind: FaultKind::Race, earlier: Some(("written by", write)), operation: None });
    }
    let unordered = word.reads.iter().find(|read| !past.knows(read.epoch));
    match unordered {
        Some(&read) => Err(Found { kind: FaultKind::Race, earlier: Some(("read by", read)), operation: None }),
        None => Ok(()),
    }
}

/// The event of an actor at a time.
pub(crate) fn event(actor: Actor, time: u32, pc: Address) -> Event {
    Event { epoch: Epoch { actor, time }, pc }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(known: &[(Actor, u32)]) -> Knowledge {
        let mut knowledge = Knowledge::default();
        known.iter().for_each(|&(actor, time)| knowledge.past.set(actor, time));
        knowledge
    }

    fn shadow() -> Shadow {
        let mut shadow = Shadow::default();
        shadow.reset(64);
        shadow
    }

    #[test]
    fn bytes_of_words() {
        assert_eq!(words(0, 4).collect::<Vec<_>>(), [(0, 0b1111)]);
        assert_eq!(words(6, 4).collect::<Vec<_>>(), [(1, 0b1100), (2, 0b0011)]);
        assert_eq!(words(9, 1).collect::<Vec<_>>(), [(2, 0b0010)]);
    }

    #[test]
    fn ordered_accesses_are_fine_and_others_are_races() {
        let mut shadow = shadow();
        let (first, second) = (knowing(&[(0, 1)]), knowing(&[(1, 1)]));
        let mut later = second.clone();
        later.join(&first);
        assert_eq!(
            shadow.read(8, 4, event(1, 1, 0), &second, Proxy::Generic).unwrap_err().kind,
            FaultKind::Uninitialized
        );
        shadow.write(8, 4, event(0, 1, 7), &first.past).unwrap();
        let race = shadow.read(8, 4, event(1, 1, 0), &second, Proxy::Generic).unwrap_err();
        assert_eq!((race.kind, race.offset, race.earlier.unwrap().1.pc), (FaultKind::Race, 8, 7));
        shadow.read(8, 4, event(1, 1, 0), &later, Proxy::Generic).unwrap();
        // the first thread does not know of that read
        assert_eq!(shadow.write(8, 4, event(0, 2, 0), &first.past).unwrap_err().kind, FaultKind::Race);
        shadow.write(8, 4, event(1, 1, 0), &later.past).unwrap();
        // another half of the same word is another's
        shadow.write(12, 2, event(0, 1, 0), &first.past).unwrap();
        shadow.write(14, 2, event(1, 1, 0), &second.past).unwrap();
    }

    #[test]
    fn the_asynchronous_proxy_sees_what_was_published() {
        let mut shadow = shadow();
        let mut knowledge = knowing(&[(0, 1)]);
        shadow.write(0, 16, event(0, 1, 0), &knowledge.past).unwrap();
        let missing = shadow.begin_read(0, 16, 1, &knowledge).unwrap_err();
        assert_eq!(missing.kind, FaultKind::MissingProxyFence);
        knowledge.published.set(0, 1);
        shadow.begin_read(0, 16, 1, &knowledge).unwrap();
        let early = shadow.write(4, 4, event(0, 1, 0), &knowledge.past).unwrap_err();
        assert_eq!((early.kind, early.operation), (FaultKind::OverwrittenInFlight, Some(1)));
        shadow.finish_read(0, 16, 1, event(0, 1, 0));
        shadow.write(4, 4, event(0, 1, 0), &knowledge.past).unwrap();
    }

    #[test]
    fn unfinished_copies_are_not_touched() {
        let mut shadow = shadow();
        let knowledge = knowing(&[(0, 1)]);
        shadow.begin_write(16, 16, 3, &knowledge.past).unwrap();
        let read = shadow.read(20, 4, event(0, 1, 0), &knowledge, Proxy::Generic).unwrap_err();
        assert_eq!((read.kind, read.operation), (FaultKind::CopyInFlight, Some(3)));
        shadow.finish_write(16, 16, event(0, 1, 0), true);
        shadow.read(20, 4, event(0, 1, 0), &knowledge, Proxy::Generic).unwrap();
    }
}
