//! The books of a whole host: every pCPU's time belongs to a domain, to nobody (it was idle), or to what is not accounted for.
//!
//! Xen charges each moment of a pCPU either to the vCPU that has it or to its idle vCPU, so domains' cpu_time and idle time
//! add up to pCPUs x wall time. What is missing ran in domains that were gone before they were looked at again. It is told once, at the
//! end: from tick to tick it would be the noise of clocks that are read one after the other.

use xprof_perfdata::domain::{IDLE, IDLE_NAME, REST, REST_NAME};

use super::guest_form::{Domain, DomainSample, GuestForm, Kind, State};

/// What is kept from one tick to the next.
#[derive(Debug, Default)]
pub struct Books {
    pcpus: u32,
    /// Where the idle clocks of the pCPUs stood.
    idle: Vec<u64>,
    /// When that was, ns; `None` before the first tick, and after a pause.
    last: Option<u64>,
    /// ns that were measured.
    wall: u64,
    /// ns of pCPUs that samples tell of.
    told: u64,
}

impl Books {
    /// Of a host with so many pCPUs.
    pub fn new(pcpus: u32) -> Books {
        Books { pcpus, ..Books::default() }
    }

    /// What stands among the domains for time that is no domain's.
    pub fn domains(&self) -> [Domain; 2] {
        let of = |id, name: &str, vcpus| Domain { id, name: name.into(), vcpus, until: u64::MAX, ..Domain::default() };
        [of(IDLE, IDLE_NAME, self.pcpus), of(REST, REST_NAME, 1)]
    }

    /// Begins anew after a pause: what happened meanwhile belongs to nobody.
    pub fn pause(&mut self) {
        self.last = None;
    }

    /// A tick at `time`: the pCPUs' idle clocks, and what all domains ran since the tick before, ns. Appends a sample for each
    /// pCPU that was idle; the number of samples.
    pub fn tick(&mut self, time: u64, idle: &[u64], ran: u64, form: &GuestForm, out: &mut Vec<u8>) -> u64 {
        let last = self.last.replace(time);
        let before = std::mem::replace(&mut self.idle, idle.to_vec());
        let Some(last) = last else { return 0 };
        self.wall += time.saturating_sub(last);
        self.told += ran;
        let mut samples = 0;
        for (cpu, (now, before)) in (0..self.pcpus).zip(idle.iter().zip(&before)) {
            let period = now.saturating_sub(*before);
            self.told += period;
            samples += u64::from(period != 0 && form.sample(Kind::Running, &sample(IDLE, cpu, time, period), out));
        }
        samples
    }

    /// Appends what nobody accounted for.
    pub fn close(&self, form: &GuestForm, out: &mut Vec<u8>) {
        let rest = (self.wall * u64::from(self.pcpus)).saturating_sub(self.told);
        if let Some(time) = self.last.filter(|_| rest != 0) {
            form.sample(Kind::Running, &sample(REST, 0, time, rest), out);
        }
    }
}

fn sample(domain: u32, vcpu: u32, time: u64, period: u64) -> DomainSample<'static> {
    DomainSample { time, domain, vcpu, pcpu: vcpu, period, state: State::Blocked, ..DomainSample::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xen::guest_form::Options;

    /// (domain's first id apart) the periods of all samples in `bytes`, by sample id.
    fn periods(bytes: &[u8]) -> Vec<(u64, u64)> {
        let size = usize::from(u16::from_ne_bytes([bytes[6], bytes[7]]));
        let word = |sample: &[u8], at: usize| u64::from_ne_bytes(sample[at..at + 8].try_into().unwrap());
        bytes.chunks(size).map(|sample| (word(sample, 8), word(sample, 56))).collect()
    }

    #[test]
    fn the_books_balance() {
        let mut books = Books::new(2);
        let domains = books.domains();
        let options = Options { frequency: 97, call_graph: false, clockid: 1, waiting: false };
        let mut form = GuestForm::new(&options, &domains);
        form.domains(&domains, 0, &mut Vec::new()).unwrap();
        let mut out = Vec::new();
        assert_eq!(books.tick(1000, &[500, 900], 7, &form, &mut out), 0, "the first says where the clocks stand");
        assert_eq!(books.tick(2000, &[600, 1900], 850, &form, &mut out), 2);
        assert_eq!(books.tick(3000, &[1600, 1900], 1000, &form, &mut out), 1);
        // A pause is in no book.
        books.pause();
        assert_eq!(books.tick(90_000, &[9000, 9000], 0, &form, &mut out), 0);
        assert_eq!(books.tick(90_100, &[9100, 9000], 100, &form, &mut out), 1);
        books.close(&form, &mut out);
        let list: Vec<u64> = periods(&out).into_iter().map(|(_, period)| period).collect();
        // Of 2 x 2100 ns domains ran 1950 and pCPUs were idle 2200: 50 are nobody's.
        assert_eq!((books.wall, list), (2100, vec![100, 1000, 1000, 100, 50]));
    }
}
