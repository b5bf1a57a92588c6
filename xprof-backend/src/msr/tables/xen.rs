//! What Xen lets dom0 reach on any CPU: of pCPUs the registers that XENPF_resource_op lets through, of the vCPUs of PV domains
//! AMD's address masks. No release lets a counter through there: what a PV dom0 with a vPMU counts with are the registers
//! of its own CPU.

use super::amd::MASK_ROWS;
use super::perf_value;
use super::perfmon::QOS;
use crate::msr::{Family, Kind, Rearm, Row};

/// Xen does not answer with ticks: ns of its system time, moved by a number that it chose at its start. The same row as
/// on every x86, for another quantity.
const SYSTEM_TIME: &[Row] =
    &[perf_value("IA32_TSC", Kind::Other, 0x10, 1, "platform.h xenpf_resource_entry: ns, not ticks")];

/// Xen, on any CPU.
pub static XEN: Family = Family {
    name: "xen",
    cpus: "what Xen lets dom0 reach, on any x86",
    rearm: Rearm::Amd,
    rows: &[SYSTEM_TIME, QOS, MASK_ROWS],
};
