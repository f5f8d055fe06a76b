//! The registers of a block and how `setmaxnreg` moves them between warpgroups.
//!
//! Invariants: the sum over warps never exceeds what the block was launched with; an increase waits until there are enough.

use super::{Block, Caller, Raised, Step, WARP, Waiting};
use crate::fault::FaultKind;

/// 32-bit registers of an SM.
const REGISTERS: u32 = 65_536;
/// What a thread may have.
const MOST: u32 = 255;

/// Registers of a block.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    free: u32,
    of_warp: Vec<u32>,
    /// Warps that wait, and for how many a thread.
    waiting: Vec<(usize, u32, Vec<usize>)>,
}

impl Registers {
    /// What a launch of one block an SM gives each thread.
    pub(crate) fn new(threads: usize) -> Registers {
        let each = (REGISTERS / threads.max(1) as u32 / 8 * 8).min(MOST / 8 * 8 + 8);
        // what the launch left of the multiprocessor's registers is no block's
        Registers { free: 0, of_warp: vec![each; threads.div_ceil(WARP)], waiting: vec![] }
    }
}

impl Block {
    /// `setmaxnreg` of a warp, all of whose lanes are here; `lanes` are its threads.
    pub(crate) fn set_registers(
        &mut self,
        caller: Caller,
        lanes: &[usize],
        count: u32,
        increase: bool,
    ) -> Result<Step<()>, Raised> {
        let wrong = |message: String| Err(Raised::new(FaultKind::RegisterBudget, caller, message));
        if !(24..=256).contains(&count) || !count.is_multiple_of(8) {
            return wrong(format!("setmaxnreg {count}: a multiple of 8 from 24 to 256 is needed"));
        }
        let warp = caller.warp();
        let now = self.registers.of_warp[warp];
        if increase && count < now || !increase && count > now {
            let verb = if increase { "inc" } else { "dec" };
            return wrong(format!("setmaxnreg.{verb} to {count}, but the warp has {now}"));
        }
        self.trace.note(self.schedule.step, caller, || format!("registers {now} to {count}"));
        if !increase {
            self.registers.of_warp[warp] = count;
            self.registers.free += (now - count) * WARP as u32;
            self.hand_out_registers(None);
            return Ok(Step::Done(()));
        }
        self.registers.waiting.push((warp, count, lanes.to_vec()));
        if self.hand_out_registers(Some(warp)) { Ok(Step::Done(())) } else { Ok(Step::Wait(Waiting::Registers(count))) }
    }

    /// Gives free registers to who waits for them; whether the warp `running`, which need not be woken, was served.
    fn hand_out_registers(&mut self, running: Option<usize>) -> bool {
        let mut served = false;
        let mut at = 0;
        while at < self.registers.waiting.len() {
            let (warp, count, _) = &self.registers.waiting[at];
            let (warp, count) = (*warp, *count);
            let needed = (count - self.registers.of_warp[warp]) * WARP as u32;
            if needed > self.registers.free {
                at += 1;
                continue;
            }
            self.registers.free -= needed;
            self.registers.of_warp[warp] = count;
            let (_, _, lanes) = self.registers.waiting.remove(at);
            if running == Some(warp) {
                served = true;
            } else {
                lanes.into_iter().for_each(|lane| self.grant(lane, 0));
            }
        }
        served
    }
}

impl Block {
    /// `setmaxnreg` of one lane: the warp's lanes change together.
    pub(crate) fn change_registers(&mut self, caller: Caller, count: u32, increase: bool) -> Result<Step<()>, Raised> {
        const NAME: &str = "setmaxnreg";
        let key = u64::from(count) << 1 | u64::from(increase);
        let Some(members) = self.gather(caller, !0, NAME, key, 0)? else {
            return Ok(Step::Wait(Waiting::Collective(NAME)));
        };
        let lanes: Vec<usize> = members.iter().map(|member| member.thread).collect();
        let step = self.set_registers(caller, &lanes, count, increase)?;
        if matches!(step, Step::Done(())) {
            self.release(caller, &members);
        }
        Ok(step)
    }
}
