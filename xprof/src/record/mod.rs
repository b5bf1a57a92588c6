//! `xprof record`: options -> recording plan -> session -> file.
//!
//! * [`values`], [`plan`]: what was typed, and what it means.
//! * [`child`]: the command; [`control`]: signals and `--control` as events of one channel.
//! * [`running`], [`facts`]: what is there before the first sample.
//! * [`mod@run`]: the loop between the session and the writer.
//! * [`unwinding`]: call chains in place of stack copies, between the session and the writer.
//! * [`writer`]: recordings being written: [`output`] names files, [`rounds`] keeps order, [`compress`] packs,
//!   [`guests`] keeps what the next file needs of domains, [`census`] counts, [`keep`] holds what the report will need.

mod census;
pub(crate) mod child;
mod compress;
pub(crate) mod control;
mod facts;
mod frame_pointers;
mod guests;
mod keep;
mod output;
pub(crate) mod plan;
mod rounds;
mod run;
pub(crate) mod running;
mod unwinding;
pub(crate) mod values;
mod writer;

pub(crate) use census::{each, is_of_guest};
pub(crate) use run::{backend, is_here, run};
