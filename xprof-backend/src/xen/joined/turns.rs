//! Whose a sample of a counter is: samples and run intervals in, domains and vCPUs out. Nothing here asks anybody.
//!
//! In the vPMU's mode all the counters of a pCPU count whoever runs there. When one overflows, Xen stops it, keeps where the vCPU was,
//! and sends an interrupt to the vCPU of Domain-0 that has the pCPU's number (vpmu_do_interrupt() of xen/arch/x86/cpu/vpmu.c). That one
//! has to get the pCPU first, and its kernel stamps the sample when it has it. So at a sample's time Domain-0 runs, and never whom
//! the sample is of: that is who had the pCPU when Domain-0 began to want it. From then until it gets it is what is called its wait here,
//! and the counter overflowed in it: either it was the overflow that woke Domain-0, or Domain-0 was waiting already. Who ran on the pCPU in that
//! wait is told when it was one vCPU; when it was none, several, or not all of the wait is known, nobody is.
//!
//! The order of the trace's records of one pCPU is certain; where a sample lies between them is so only to the error of the two clocks.

use std::collections::VecDeque;

use xprof_perfdata::domain::{Guest, RunState};

use crate::xen::guest_form::StateSample;

/// Runs of others that are kept while Domain-0 waits for one pCPU; of older ones it is known only that they were.
const RUNS_MAX: usize = 256;
/// Times that Domain-0 had one pCPU which no sample has passed.
const TURNS_MAX: usize = 1 << 16;

/// A vCPU that is not Domain-0's had the pCPU.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: u64,
    to: u64,
    of: Guest,
}

/// Domain-0's vCPU had its pCPU.
#[derive(Clone, Copy, Debug)]
struct Turn {
    from: u64,
    to: u64,
    /// Who had it while Domain-0 waited; `None`: not one vCPU, or not known.
    before: Option<Guest>,
}

/// The last that is known of Domain-0's vCPU.
#[derive(Clone, Copy, Debug)]
struct Last {
    state: RunState,
    to: u64,
    goes_on: bool,
    /// When the state began, where that is known.
    began: Option<u64>,
}

/// One pCPU, and the vCPU of Domain-0 that has its number and is pinned to it.
#[derive(Debug)]
pub struct Turns {
    cpu: u32,
    last: Option<Last>,
    runs: VecDeque<Run>,
    /// Runs until then were forgotten.
    forgotten: u64,
    turns: VecDeque<Turn>,
}

impl Turns {
    /// Of this pCPU.
    pub fn new(cpu: u32) -> Turns {
        Turns { cpu, last: None, runs: VecDeque::new(), forgotten: 0, turns: VecDeque::new() }
    }

    /// Takes a stint in, of Domain-0's vCPU or of whoever was on the pCPU. They come in order of their ends.
    pub fn stint(&mut self, stint: &StateSample) {
        let from = stint.time.saturating_sub(stint.period);
        let own = Guest { machine_pid: 0, vcpu: self.cpu };
        if stint.of == own {
            self.own(stint, from);
        } else if stint.state == RunState::Running && stint.pcpu == self.cpu {
            match self.runs.back_mut().filter(|run| run.of == stint.of && run.to == from) {
                Some(run) => run.to = stint.time,
                None => self.runs.push_back(Run { from, to: stint.time, of: stint.of }),
            }
            if self.runs.len() > RUNS_MAX
                && let Some(run) = self.runs.pop_front()
            {
                self.forgotten = run.to;
            }
        }
    }

    fn own(&mut self, stint: &StateSample, from: u64) {
        let StateSample { time: to, state, goes_on, .. } = *stint;
        let last = self.last.filter(|last| last.to == from);
        let is_same = last.is_some_and(|last| last.goes_on && last.state == state);
        let began = match last {
            Some(last) if is_same => last.began,
            // What was cut and goes on as something else has lost its end.
            Some(last) if !last.goes_on => Some(from),
            _ => None,
        };
        match state {
            RunState::Running if stint.pcpu != self.cpu => {}
            RunState::Running => {
                let wait = match last {
                    Some(last) if is_same || last.goes_on => None,
                    Some(last) if last.state == RunState::Runnable => last.began,
                    Some(_) => Some(from),
                    None => None,
                };
                match self.turns.back_mut().filter(|turn| is_same && turn.to == from) {
                    Some(turn) => turn.to = to,
                    None => {
                        let before = wait.and_then(|wait| self.had(wait, from));
                        self.turns.push_back(Turn { from, to, before });
                    }
                }
                self.runs.retain(|run| run.to > from);
                if self.turns.len() > TURNS_MAX {
                    self.turns.pop_front();
                }
            }
            RunState::Runnable => {}
            RunState::Blocked | RunState::Offline => self.runs.retain(|run| run.to > to),
        }
        self.last = Some(Last { state, to, goes_on, began });
    }

    /// The one vCPU that had the pCPU from `wait` to `until`.
    fn had(&self, wait: u64, until: u64) -> Option<Guest> {
        if self.forgotten > wait {
            return None;
        }
        let there = |run: &&Run| run.from < until && (run.to > wait || run.to == until);
        let mut found = self.runs.iter().filter(there).map(|run| run.of);
        let first = found.next()?;
        found.all(|of| of == first).then_some(first)
    }

    /// Whose a sample is that Domain-0 took at `time`, which is right by `error` ns; all stints until then are in.
    pub fn at(&self, time: u64, error: u64) -> Option<Guest> {
        let (from, to) = (time.saturating_sub(error), time.saturating_add(error));
        let first = self.turns.partition_point(|turn| turn.to < from);
        let mut near = self.turns.iter().skip(first).take_while(|turn| turn.from <= to).map(|turn| turn.before);
        let found = near.next()??;
        near.all(|before| before == Some(found)).then_some(found)
    }

    /// No sample comes any more that was taken before `time`.
    pub fn passed(&mut self, time: u64) {
        let gone = self.turns.partition_point(|turn| turn.to < time);
        // A turn that goes on is continued.
        self.turns.drain(..gone.min(self.turns.len().saturating_sub(1)));
    }

    /// What is kept: numbers of turns and of runs.
    #[cfg(test)]
    fn kept(&self) -> (usize, usize) {
        (self.turns.len(), self.runs.len())
    }
}

#[cfg(test)]
mod tests;
