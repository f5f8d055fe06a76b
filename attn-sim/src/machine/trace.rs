//! A timeline of a block that a person can read.
//!
//! Invariant: nothing is formatted unless a trace was asked for.

use std::fmt::Write;

use super::{Caller, WARP};
use crate::abi::Address;

/// An entry of the timeline.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    step: u64,
    warp: usize,
    threads: Vec<usize>,
    pub(crate) pc: Address,
    what: String,
}

/// The timeline of a block.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) entries: Option<Vec<Entry>>,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Trace {
        Trace { entries: wanted.then(Vec::new) }
    }

    /// Notes what a thread does. The same thing done by other lanes of its warp joins the entry.
    pub(crate) fn note(&mut self, step: u64, caller: Caller, what: impl FnOnce() -> String) {
        let Some(entries) = &mut self.entries else { return };
        let what = what();
        let warp = caller.warp();
        let recent = entries.iter_mut().rev().take(WARP).find(|entry| entry.warp == warp);
        match recent {
            Some(entry) if entry.what == what && entry.pc == caller.pc && !entry.threads.contains(&caller.thread) => {
                entry.threads.push(caller.thread);
            }
            _ => entries.push(Entry { step, warp, threads: vec![caller.thread], pc: caller.pc, what }),
        }
    }

    /// The timeline as a table: the step, who, the kernel's line, and what.
    pub(crate) fn render(&self, block: [u32; 3], line: impl Fn(Address) -> Option<u32>) -> Option<String> {
        let entries = self.entries.as_ref()?;
        let [x, y, z] = block;
        let mut text = format!("block ({x}, {y}, {z})\n{:>8}  {:<18} {:>5}  what\n", "step", "who", "line");
        for entry in entries {
            let who = match entry.threads.as_slice() {
                [thread] => format!("warp {} lane {}", entry.warp, thread % WARP),
                threads if threads.len() == WARP => format!("warp {}", entry.warp),
                threads => format!("warp {}, {} lanes", entry.warp, threads.len()),
            };
            let line = line(entry.pc).map_or(String::new(), |line| line.to_string());
            writeln!(text, "{:>8}  {who:<18} {line:>5}  {}", entry.step, entry.what).expect("writing to a string");
        }
        Some(text)
    }
}
