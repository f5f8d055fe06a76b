//! Collective operations: what the lanes of a warp, or the threads of a warpgroup, execute together.
//!
//! The last to arrive does the work for all, reading what each laid out on its own stack, and lets the others go on.
//!
//! Invariants: all members of one collective name the same operation with the same particulars (`key`); a member that exits, or
//! that arrives with another operation, while others wait is a divergence. Nothing here orders memory but `__syncwarp`.

use super::{Block, Caller, Raised, State, Step, WARP, WARPGROUP, Waiting};
use crate::abi::Address;
use crate::fault::FaultKind;

/// A collective whose members are still arriving.
#[derive(Debug)]
struct Gathering {
    name: &'static str,
    key: u64,
    /// Lanes of the warp that take part; all ones for a warpgroup.
    mask: u32,
    members: Vec<Member>,
}

/// A member of a collective.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) thread: usize,
    pub(crate) pc: Address,
    /// The address of what it laid out for the operation.
    pub(crate) payload: usize,
}

/// The gathering of each warp and of each warpgroup.
#[derive(Debug, Default)]
pub(crate) struct Collectives {
    warps: Vec<Vec<Gathering>>,
    warpgroups: Vec<Option<Gathering>>,
}

impl Collectives {
    pub(crate) fn new(threads: usize) -> Collectives {
        Collectives {
            warps: (0..threads.div_ceil(WARP)).map(|_| vec![]).collect(),
            warpgroups: (0..threads.div_ceil(WARPGROUP)).map(|_| None).collect(),
        }
    }

    fn waiting_in(&self, warp: usize) -> impl Iterator<Item = &Gathering> {
        self.warps[warp].iter().chain(self.warpgroups[warp * WARP / WARPGROUP].iter())
    }
}

impl Block {
    /// Arrives at a collective of the lanes in `mask`. The last to arrive gets all members, by lane, and must let them go.
    pub(crate) fn gather(
        &mut self,
        caller: Caller,
        mask: u32,
        name: &'static str,
        key: u64,
        payload: usize,
    ) -> Result<Option<Vec<Member>>, Raised> {
        self.refuse_divergence(caller, name, false)?;
        let lane = caller.lane();
        let lanes = self.threads.len() - caller.warp() * WARP;
        let mask = if lanes < WARP { mask & ((1 << lanes) - 1) } else { mask };
        if mask & (1 << lane) == 0 {
            let message = format!("lane {lane} executes {name} with mask {mask:#010x}, which leaves it out");
            return Err(Raised::new(FaultKind::Divergence, caller, message));
        }
        let gatherings = &mut self.collectives.warps[caller.warp()];
        if let Some(other) = gatherings
            .iter()
            .find(|other| other.mask & mask != 0 && (other.mask != mask || other.name != name || other.key != key))
        {
            let first = other.members[0];
            let message = if other.name == name {
                format!(
                    "lanes of a warp execute {name} with different particulars or masks ({mask:#010x}, {:#010x})",
                    other.mask
                )
            } else {
                format!("lanes of a warp execute {name} while others execute {}", other.name)
            };
            let raised = Raised::new(FaultKind::Divergence, caller, message);
            return Err(raised.with("the other is", Some(first.thread), first.pc));
        }
        let member = Member { thread: caller.thread, pc: caller.pc, payload };
        let at = match gatherings.iter().position(|gathering| gathering.mask == mask) {
            Some(at) => at,
            None => {
                gatherings.push(Gathering { name, key, mask, members: Vec::with_capacity(WARP) });
                gatherings.len() - 1
            }
        };
        gatherings[at].members.push(member);
        if gatherings[at].members.len() < mask.count_ones() as usize {
            let absent = self.exited_member(caller.warp(), mask);
            return match absent {
                Some(thread) => Err(exited(caller, name, thread)),
                None => Ok(None),
            };
        }
        let mut members = gatherings.swap_remove(at).members;
        members.sort_unstable_by_key(|member| member.thread);
        Ok(Some(members))
    }

    /// Arrives at a collective of the caller's warpgroup.
    pub(crate) fn gather_warpgroup(
        &mut self,
        caller: Caller,
        name: &'static str,
        key: u64,
        payload: usize,
    ) -> Result<Option<Vec<Member>>, Raised> {
        self.refuse_divergence(caller, name, true)?;
        let group = caller.thread / WARPGROUP;
        if self.threads.len() < (group + 1) * WARPGROUP {
            let message = format!("{name} in a warpgroup that has fewer than {WARPGROUP} threads");
            return Err(Raised::new(FaultKind::Divergence, caller, message));
        }
        let member = Member { thread: caller.thread, pc: caller.pc, payload };
        let slot = &mut self.collectives.warpgroups[group];
        match slot {
            None => *slot = Some(Gathering { name, key, mask: !0, members: vec![member] }),
            Some(gathering) if gathering.name == name && gathering.key == key => gathering.members.push(member),
            Some(gathering) => {
                let first = gathering.members[0];
                let message = if gathering.name == name {
                    format!("threads of a warpgroup execute {name} with different operands")
                } else {
                    format!("threads of a warpgroup execute {name} while others execute {}", gathering.name)
                };
                let raised = Raised::new(FaultKind::Divergence, caller, message);
                return Err(raised.with("the other is", Some(first.thread), first.pc));
            }
        }
        let complete = slot.as_ref().is_some_and(|gathering| gathering.members.len() == WARPGROUP);
        if !complete {
            let mut others = group * WARPGROUP..(group + 1) * WARPGROUP;
            return match others.find(|&thread| self.threads[thread].state == State::Exited) {
                Some(thread) => Err(exited(caller, name, thread)),
                None => Ok(None),
            };
        }
        let mut members = slot.take().expect("just seen").members;
        members.sort_unstable_by_key(|member| member.thread);
        Ok(Some(members))
    }

    /// A lane of a warp that waits in one kind of collective cannot have siblings that start the other kind.
    fn refuse_divergence(&self, caller: Caller, name: &'static str, warpgroup: bool) -> Result<(), Raised> {
        let other = if warpgroup {
            self.collectives.warps[caller.warp()].first()
        } else {
            let group = &self.collectives.warpgroups[caller.thread / WARPGROUP];
            let in_warp = |member: &Member| member.thread / WARP == caller.warp();
            group.as_ref().filter(|gathering| gathering.members.iter().any(in_warp))
        };
        let Some(other) = other else { return Ok(()) };
        let first = other.members[0];
        let message = format!("lanes of a warp execute {name} while others execute {}", other.name);
        Err(Raised::new(FaultKind::Divergence, caller, message).with("the other is", Some(first.thread), first.pc))
    }

    fn exited_member(&self, warp: usize, mask: u32) -> Option<usize> {
        let lanes = (0..WARP).filter(|lane| mask & (1 << lane) != 0);
        lanes.map(|lane| warp * WARP + lane).find(|&thread| self.threads[thread].state == State::Exited)
    }

    /// Lets the other members of a finished collective go on.
    pub(crate) fn release(&mut self, caller: Caller, members: &[Member]) {
        for member in members {
            if member.thread != caller.thread {
                self.grant(member.thread, 0);
            }
        }
    }

    /// A thread has exited: nobody may still wait for it.
    pub(crate) fn collectives_after_exit(&self, thread: usize) -> Result<(), Raised> {
        let warp = thread / WARP;
        let lane = 1 << (thread % WARP);
        match self.collectives.waiting_in(warp).find(|gathering| gathering.mask & lane != 0) {
            Some(gathering) => {
                let first = gathering.members[0];
                Err(exited(Caller { thread: first.thread, pc: first.pc }, gathering.name, thread))
            }
            None => Ok(()),
        }
    }

    /// `shfl.sync`; `payload` holds value, lane operand and receives the result.
    pub(crate) fn shuffle(
        &mut self,
        caller: Caller,
        mask: u32,
        kind: u32,
        width: u32,
        payload: &mut Shuffle,
    ) -> Result<Step<()>, Raised> {
        let key = u64::from(kind) << 32 | u64::from(width);
        let Some(members) = self.gather(caller, mask, "shfl.sync", key, std::ptr::from_mut(payload) as usize)? else {
            return Ok(Step::Wait(Waiting::Collective("shfl.sync")));
        };
        let mut values = [None; WARP];
        for member in &members {
            // SAFETY: the member's payload lies on its stack, and it is suspended or is the caller.
            values[member.thread % WARP] = Some(unsafe { (*(member.payload as *const Shuffle)).value });
        }
        for member in &members {
            let lane = (member.thread % WARP) as u32;
            // SAFETY: as above; one at a time.
            let payload = unsafe { &mut *(member.payload as *mut Shuffle) };
            let segment = lane / width * width;
            let source = match kind {
                0 => lane.checked_sub(payload.lane).filter(|&source| source >= segment),
                1 => Some(lane + payload.lane).filter(|&source| source < segment + width),
                2 => Some(lane ^ payload.lane).filter(|&source| source < segment + width),
                _ => Some(segment + payload.lane % width),
            };
            let source = source.unwrap_or(lane);
            match values[source as usize] {
                Some(value) => payload.value = value,
                None => {
                    let message = format!("shfl.sync reads lane {source}, which does not take part");
                    let who = Caller { thread: member.thread, pc: member.pc };
                    return Err(Raised::new(FaultKind::Divergence, who, message));
                }
            }
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    /// `vote.sync`; `payload` holds the predicate and receives the result.
    pub(crate) fn vote(&mut self, caller: Caller, mask: u32, kind: u32, payload: &mut u32) -> Result<Step<()>, Raised> {
        let Some(members) =
            self.gather(caller, mask, "vote.sync", u64::from(kind), std::ptr::from_mut(payload) as usize)?
        else {
            return Ok(Step::Wait(Waiting::Collective("vote.sync")));
        };
        let mut ballot = 0;
        for member in &members {
            // SAFETY: as in `shuffle`.
            let predicate = unsafe { *(member.payload as *const u32) };
            ballot |= u32::from(predicate != 0) << (member.thread % WARP);
        }
        let taking_part = members.iter().fold(0, |mask, member| mask | 1 << (member.thread % WARP));
        let result = match kind {
            0 => u32::from(ballot != 0),
            1 => u32::from(ballot == taking_part),
            _ => ballot,
        };
        for member in &members {
            // SAFETY: as in `shuffle`.
            unsafe { *(member.payload as *mut u32) = result };
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    /// `__syncwarp`.
    pub(crate) fn sync_warp(&mut self, caller: Caller, mask: u32) -> Result<Step<()>, Raised> {
        let Some(members) = self.gather(caller, mask, "__syncwarp", 0, 0)? else {
            return Ok(Step::Wait(Waiting::Collective("__syncwarp")));
        };
        let threads: Vec<usize> = members.iter().map(|member| member.thread).collect();
        self.meet(&threads);
        self.release(caller, &members);
        Ok(Step::Done(()))
    }

    /// `elect.sync`: the lowest lane is elected.
    pub(crate) fn elect(&mut self, caller: Caller, mask: u32, payload: &mut u32) -> Result<Step<()>, Raised> {
        let Some(members) = self.gather(caller, mask, "elect.sync", 0, std::ptr::from_mut(payload) as usize)? else {
            return Ok(Step::Wait(Waiting::Collective("elect.sync")));
        };
        for (at, member) in members.iter().enumerate() {
            // SAFETY: as in `shuffle`.
            unsafe { *(member.payload as *mut u32) = u32::from(at == 0) };
        }
        self.release(caller, &members);
        Ok(Step::Done(()))
    }
}

/// What a lane lays out for `shfl.sync`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuffle {
    /// In: what it offers. Out: what it got.
    pub(crate) value: u32,
    pub(crate) lane: u32,
}

fn exited(caller: Caller, name: &str, thread: usize) -> Raised {
    let message = format!("{name} waits for thread {thread}, which has exited");
    Raised::new(FaultKind::Divergence, caller, message)
}
