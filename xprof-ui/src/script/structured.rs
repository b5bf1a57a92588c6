//! Samples as JSON (one document, one sample a line) and as CSV (one row a sample).
//!
//! Keys of a sample: `event`, `comm`, `pid`, `tid`, `cpu`, `mode`, `time_ns`, `period`, and where the event has them `addr`,
//! `ip`, `symbol`, `offset`, `dso`, `trace` and `callchain`, a list of frames with `ip`, `symbol`, `offset`, `dso`,
//! innermost first; of those compiled into the next one `inlined` is true. Addresses are hexadecimal strings. In CSV the chain is one field, its symbols separated by `;`.
//!
//! A sample of a guest also has `machine_pid` and `vcpu`; one of a Xen domain `state` (`running`, `preempted`, `blocked`), `torn` (its stack
//! may be of two moments; JSON alone), and, where its registers were read, `rsp`, `rbp` and `cr3`.

use std::sync::Arc;

use serde_json::{Map, Value};
use xprof_perfdata::abi::sample as bit;
use xprof_perfdata::domain::{RUNNING_EVENT, State, TORN, WAITING_EVENT};
use xprof_perfdata::events::Event;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::sample::SampleView;
use xprof_profile::profile::FrameAddr;
use xprof_profile::timeline::{Mode, ThreadId};

use super::Script;
use super::places::{KernelFunctions, dso};
use crate::csv_field;

/// First line of CSV.
pub(super) const CSV_HEADING: &[u8] =
    b"event,comm,pid,tid,cpu,time_ns,period,addr,ip,symbol,offset,dso,trace,callchain,mode,machine_pid,vcpu,state,rsp,rbp,cr3\n";

/// One address.
#[derive(Clone)]
struct Frame {
    ip: String,
    symbol: Option<String>,
    offset: Option<u64>,
    dso: String,
    inlined: bool,
}

/// What a sample of a Xen domain has of its vCPU.
struct OfVcpu {
    state: State,
    torn: bool,
    /// `rsp`, `rbp`, `cr3`.
    registers: Option<[String; 3]>,
}

impl OfVcpu {
    fn state(&self) -> &'static str {
        match self.state {
            State::Running => "running",
            State::Preempted => "preempted",
            State::Blocked => "blocked",
        }
    }
}

/// One sample.
struct Row {
    comm: String,
    mode: &'static str,
    vcpu: Option<OfVcpu>,
    cpu: Option<u32>,
    addr: Option<String>,
    frame: Option<Frame>,
    trace: Option<String>,
    chain: Option<Vec<Frame>>,
}

impl Script {
    fn frame(&mut self, pid: u32, mode: Mode, address: u64) -> Frame {
        let place = self.places.place(&self.timeline, pid, mode, address);
        let named = self.places.named(&self.timeline, place);
        let mut path = Vec::new();
        dso(&self.timeline, place, &mut path);
        Frame {
            ip: format!("{address:#x}"),
            offset: named.as_ref().map(|(_, start)| place.addr.wrapping_sub(*start)),
            symbol: named.map(|(name, _)| name.to_string()),
            dso: String::from_utf8_lossy(&path).into_owned(),
            inlined: false,
        }
    }

    /// The functions at an address of a chain: those compiled into others there, then the one whose code it is.
    fn frames(&mut self, pid: u32, mode: Mode, address: FrameAddr) -> Vec<Frame> {
        let inlined = self.places.inlined(&self.timeline, (pid, mode, address));
        let own = self.frame(pid, mode, address.recorded());
        let of = |name: Arc<str>| Frame { symbol: Some(name.to_string()), inlined: true, ..own.clone() };
        let mut frames: Vec<Frame> = inlined.into_iter().map(of).collect();
        frames.push(own);
        frames
    }

    /// `None` where it is no sample of a domain.
    fn of_vcpu(&self, raw: &RawRecord<'_>, view: &SampleView<'_>, event: &Event) -> Option<OfVcpu> {
        /// Bits of `PERF_REG_X86_BP` and `_SP`.
        const REGISTERS: [u32; 2] = [7, 6];
        if ![RUNNING_EVENT, WAITING_EVENT].contains(&event.name.as_str()) {
            return None;
        }
        let state = State::of(view.addr())?;
        let mask = self.masks.get(raw.event as usize).map_or(0, |masks| masks.0);
        let values = &self.sample.regs_intr.values;
        let [rsp, rbp] = REGISTERS.map(|register| {
            let place = (mask & ((1 << register) - 1)).count_ones() as usize;
            values.get(place).filter(|_| mask >> register & 1 == 1)
        });
        let registers = rsp.zip(rbp).map(|(rsp, rbp)| [*rsp, *rbp, self.sample.phys_addr]);
        let registers = registers.map(|registers| registers.map(|value| format!("{value:#x}")));
        Some(OfVcpu { state, torn: view.addr() & TORN != 0, registers })
    }

    fn row(&mut self, raw: &RawRecord<'_>, view: &SampleView<'_>, thread: ThreadId, event: &Event) -> Row {
        let vcpu = self.of_vcpu(raw, view, event);
        let has = |bits: u64| event.format.sample_type & bits != 0;
        let (pid, mode) = (self.whose.process, Mode::of(raw.misc));
        let tasks = self.timeline.tasks();
        let comm = String::from_utf8_lossy(tasks.comm(tasks.key(thread).comm)).into_owned();
        let frame = has(bit::IP).then(|| self.frame(pid, mode, view.ip()));
        let chain = has(bit::CALLCHAIN).then(|| {
            let chain = (view.callchain(), self.link(raw.event as usize));
            let frames = self.places.frames(&self.timeline, (pid, mode), chain).unwrap_or_else(|before| before);
            frames.into_iter().flat_map(|(mode, at)| self.frames(pid, mode, at)).collect()
        });
        let format = self.views.get(raw.event as usize).and_then(|v| v.tracepoint.as_ref());
        let trace = format.map(|format| {
            let mut text = Vec::new();
            let mut functions = KernelFunctions { places: &mut self.places, timeline: &self.timeline };
            format.print(&self.sample.raw, &mut functions, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        // Where it was nobody saw.
        let unseen = vcpu.as_ref().is_some_and(|vcpu| vcpu.state == State::Blocked);
        Row {
            comm,
            mode: if unseen { Mode::Unknown } else { mode }.name(),
            vcpu,
            cpu: has(bit::CPU).then(|| view.cpu()),
            addr: has(bit::ADDR).then(|| format!("{:#x}", view.addr())),
            frame,
            trace,
            chain,
        }
    }

    pub(super) fn json(
        &mut self,
        raw: &RawRecord<'_>,
        view: &SampleView<'_>,
        thread: ThreadId,
        (event, period): (&Event, u64),
        out: &mut Vec<u8>,
    ) {
        let row = self.row(raw, view, thread, event);
        let mut object = Map::new();
        object.insert("event".into(), event.name.clone().into());
        object.insert("comm".into(), row.comm.into());
        object.insert("pid".into(), (view.pid() as i32).into());
        object.insert("tid".into(), (view.tid() as i32).into());
        if let Some(guest) = self.whose.guest {
            object.insert("machine_pid".into(), guest.machine_pid.into());
            object.insert("vcpu".into(), guest.vcpu.into());
        }
        object.insert("mode".into(), row.mode.into());
        if let Some(vcpu) = row.vcpu {
            object.insert("state".into(), vcpu.state().into());
            object.insert("torn".into(), vcpu.torn.into());
            for (name, value) in ["rsp", "rbp", "cr3"].into_iter().zip(vcpu.registers.into_iter().flatten()) {
                object.insert(name.into(), value.into());
            }
        }
        object.insert("time_ns".into(), view.time().into());
        object.insert("period".into(), period.into());
        let others = [("cpu", row.cpu.map(Value::from)), ("addr", row.addr.map(Value::from))];
        let trace = [("trace", row.trace.map(Value::from))];
        for (key, value) in others.into_iter().chain(trace) {
            if let Some(value) = value {
                object.insert(key.into(), value);
            }
        }
        if let Some(frame) = row.frame {
            frame.insert_into(&mut object);
        }
        if let Some(chain) = row.chain {
            let frames = chain.into_iter().map(|frame| {
                let mut object = Map::new();
                frame.insert_into(&mut object);
                Value::Object(object)
            });
            object.insert("callchain".into(), frames.collect());
        }
        out.extend_from_slice(if self.rows == 0 { b"\n" } else { b",\n" });
        out.extend_from_slice(Value::Object(object).to_string().as_bytes());
    }

    pub(super) fn csv(
        &mut self,
        raw: &RawRecord<'_>,
        view: &SampleView<'_>,
        thread: ThreadId,
        (event, period): (&Event, u64),
        out: &mut Vec<u8>,
    ) {
        let row = self.row(raw, view, thread, event);
        let chain = row.chain.unwrap_or_default();
        let chain: Vec<_> = chain.iter().map(|f| f.symbol.as_deref().unwrap_or("[unknown]")).collect();
        let frame = row.frame.as_ref();
        let guest = self.whose.guest;
        let state = row.vcpu.as_ref().map_or("", OfVcpu::state);
        let [rsp, rbp, cr3] = row.vcpu.and_then(|vcpu| vcpu.registers).unwrap_or_default();
        let fields = [
            event.name.clone(),
            row.comm,
            (view.pid() as i32).to_string(),
            (view.tid() as i32).to_string(),
            row.cpu.map_or(String::new(), |cpu| cpu.to_string()),
            view.time().to_string(),
            period.to_string(),
            row.addr.unwrap_or_default(),
            frame.map_or(String::new(), |f| f.ip.clone()),
            frame.and_then(|f| f.symbol.clone()).unwrap_or_default(),
            frame.and_then(|f| f.offset).map_or(String::new(), |offset| format!("{offset:#x}")),
            frame.map_or(String::new(), |f| f.dso.clone()),
            row.trace.unwrap_or_default(),
            chain.join(";"),
            row.mode.to_owned(),
            guest.map_or(String::new(), |guest| guest.machine_pid.to_string()),
            guest.map_or(String::new(), |guest| guest.vcpu.to_string()),
            state.to_owned(),
            rsp,
            rbp,
            cr3,
        ];
        out.extend_from_slice(fields.map(|field| csv_field(&field)).join(",").as_bytes());
        out.push(b'\n');
    }
}

impl Frame {
    fn insert_into(self, object: &mut Map<String, Value>) {
        object.insert("ip".into(), self.ip.into());
        object.insert("symbol".into(), self.symbol.map_or(Value::Null, Value::from));
        object.insert("offset".into(), self.offset.map_or(Value::Null, Value::from));
        object.insert("dso".into(), self.dso.into());
        if self.inlined {
            object.insert("inlined".into(), true.into());
        }
    }
}
