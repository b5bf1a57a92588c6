//! What a call did, and class tables, as text, JSON and CSV.

use std::fmt::Write as _;

use serde_json::{Value, json};
use xprof_backend::msr::{Access, Class, Entry, Fault, Kind, Mode, Overflow, Row, Table};
use xprof_ui::plain::csv_field;

use super::names;
use crate::commands::report::OutputFormat;

/// A batch after its call.
pub(super) struct Done<'a> {
    pub(super) call: &'static str,
    pub(super) backend: &'static str,
    pub(super) table: &'a Table,
    pub(super) class: Class,
    pub(super) cpu: u32,
    /// Entries done, in order.
    pub(super) count: usize,
    pub(super) entries: &'a [Entry],
}

/// "perf", "debug".
pub(super) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Perf => "perf",
        Class::Debug => "debug",
        Class::Invalid => "invalid",
    }
}

/// Why an entry failed, with its errno's number.
fn fault(entry: &Entry) -> String {
    match entry.fault() {
        Some(fault) if fault.status() == entry.status => fault.to_string(),
        _ => format!("{} (errno {})", Fault::Refused, -entry.status),
    }
}

pub(super) fn batch(done: &Done<'_>, format: OutputFormat) -> String {
    let Done { call, backend, table, class, cpu, count, entries } = done;
    let name = |entry: &Entry| names::name(table, *class, entry.msr);
    let failed = entries.get(*count);
    match format {
        OutputFormat::Text => {
            let mut out = String::new();
            for entry in &entries[..*count] {
                let line = format!("{:#010x} {:<28} {:#018x} {}", entry.msr, name(entry), entry.value, entry.value);
                let _ = writeln!(out, "{line}");
            }
            let _ = writeln!(
                out,
                "{call}: {count} of {} done on CPU {cpu} ({backend}, {})",
                entries.len(),
                table.family.name
            );
            if let Some(entry) = failed {
                let shown = [format!("{:#x}", entry.msr), name(entry)].join(" ");
                let _ = writeln!(out, "entry {count}, {}: {}", shown.trim_end(), fault(entry));
            }
            out
        }
        OutputFormat::Json => {
            let one = |(at, entry): (usize, &Entry)| {
                let is_done = at < *count;
                json!({
                    "msr": entry.msr,
                    "address": format!("{:#x}", entry.msr),
                    "name": name(entry),
                    "value": is_done.then_some(entry.value),
                    "hex": is_done.then(|| format!("{:#x}", entry.value)),
                    "done": is_done,
                    "status": (at <= *count).then_some(entry.status),
                    "fault": (at == *count).then(|| fault(entry)),
                })
            };
            let list: Vec<Value> = entries.iter().enumerate().map(one).collect();
            let document = json!({
                "schema": 1, "call": call, "backend": backend, "family": table.family.name, "class": class_name(*class),
                "cpu": cpu, "count": count, "failed": failed.map(|_| count), "entries": list,
            });
            format!("{document}\n")
        }
        OutputFormat::Csv => {
            let mut out = String::from("entry,address,name,value,done,status,fault\n");
            for (at, entry) in entries.iter().enumerate() {
                let (value, is_done) =
                    if at < *count { (format!("{:#x}", entry.value), true) } else { (String::new(), false) };
                let status = if at <= *count { entry.status.to_string() } else { String::new() };
                let why = if at == *count { fault(entry) } else { String::new() };
                let _ = writeln!(
                    out,
                    "{at},{:#x},{},{value},{is_done},{status},{}",
                    entry.msr,
                    name(entry),
                    csv_field(&why)
                );
            }
            out
        }
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::CounterAlias => "alias",
        Kind::Select => "select",
        Kind::Fixed => "fixed",
        Kind::Cccr => "cccr",
        Kind::Escr => "escr",
        Kind::Enable => "enable",
        Kind::Status => "status",
        Kind::StatusClear => "clear",
        Kind::StatusSet => "set",
        Kind::Other => "other",
    }
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
        Access::SignExtended32 => "rw32",
    }
}

/// The rows of a table that a CPU has; `class`: of this one only.
pub(super) fn classes(table: &Table, class: Option<Class>, format: OutputFormat) -> String {
    let rows: Vec<(&Row, u32)> = table
        .family
        .rows()
        .filter(|row| class.is_none_or(|class| row.class == class))
        .map(|row| (row, table.count(row)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let width = |row: &Row| table.find(row.class, row.first).map_or(row.width, |found| found.width);
    match format {
        OutputFormat::Text => {
            let mut out = format!("# {}: {}\n", table.family.name, table.family.cpus);
            out.push_str("# class  registers              kind     access  bits  name                          reserved            reset  source\n");
            for (row, count) in rows {
                let last = row.first + row.stride * (count - 1);
                let mut place = format!("{:#x}", row.first);
                if count > 1 {
                    let _ = write!(place, "-{last:#x}");
                }
                if count > 1 && row.stride > 1 {
                    let _ = write!(place, "/{:#x}", row.stride);
                }
                let _ = writeln!(
                    out,
                    "{:<7}  {place:<26} {:<8} {:<6} {:>4}  {:<28} {:#018x}  {:#6x}  {}",
                    class_name(row.class),
                    kind_name(row.kind),
                    access_name(row.access),
                    width(row),
                    row.name,
                    row.reserved,
                    row.reset,
                    row.source
                );
            }
            out
        }
        OutputFormat::Json => {
            let one = |(row, count): &(&Row, u32)| {
                json!({
                    "class": class_name(row.class), "name": row.name, "kind": kind_name(row.kind), "first": row.first,
                    "address": format!("{:#x}", row.first), "stride": row.stride, "count": count, "width": width(row),
                    "reserved": format!("{:#x}", row.reserved), "reset": format!("{:#x}", row.reset),
                    "access": access_name(row.access), "source": row.source,
                })
            };
            let list: Vec<Value> = rows.iter().map(one).collect();
            let document =
                json!({"schema": 1, "family": table.family.name, "cpus": table.family.cpus, "registers": list});
            format!("{document}\n")
        }
        OutputFormat::Csv => {
            let mut out = String::from("class,name,kind,first,stride,count,width,reserved,reset,access,source\n");
            for (row, count) in rows {
                let _ = writeln!(
                    out,
                    "{},{},{},{:#x},{},{count},{},{:#x},{:#x},{},{}",
                    class_name(row.class),
                    row.name,
                    kind_name(row.kind),
                    row.first,
                    row.stride,
                    width(row),
                    row.reserved,
                    row.reset,
                    access_name(row.access),
                    csv_field(row.source)
                );
            }
            out
        }
    }
}

/// What stands before the first interrupt.
pub(super) fn irq_head(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Text => {
            "#              time  pcpu  domain  vcpu  mode        overflow                  ip                  sp  lost\n"
        }
        OutputFormat::Json => "",
        OutputFormat::Csv => "time,pcpu,domain,vcpu,mode,overflow,ip,sp,bp,flags,lost\n",
    }
}

/// One interrupt; JSON: one object a line.
pub(super) fn irq(overflow: &Overflow, format: OutputFormat) -> String {
    let mode = match overflow.mode {
        Mode::User => "user",
        Mode::Kernel => "kernel",
        Mode::Hypervisor => "hypervisor",
    };
    let Overflow { time, domain, vcpu, pcpu, overflow: mask, lost, ip, sp, bp, flags, .. } = overflow;
    match format {
        OutputFormat::Text => format!(
            "{:>9}.{:09}  {pcpu:>4}  {:>6}  {vcpu:>4}  {mode:<10} {mask:#10x}  {ip:#018x}  {sp:#018x}  {lost:>4}\n",
            time / 1_000_000_000,
            time % 1_000_000_000,
            domain.0
        ),
        OutputFormat::Json => format!(
            "{}\n",
            json!({
                "time": time, "pcpu": pcpu, "domain": domain.0, "vcpu": vcpu, "mode": mode, "overflow": mask, "ip": ip,
                "sp": sp, "bp": bp, "flags": flags, "lost": lost,
            })
        ),
        OutputFormat::Csv => {
            format!("{time},{pcpu},{},{vcpu},{mode},{mask:#x},{ip:#x},{sp:#x},{bp:#x},{flags:#x},{lost}\n", domain.0)
        }
    }
}
