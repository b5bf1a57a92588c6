//! `xprof top`: where samples fall at this moment.
//!
//! * [`collect`]: from a session to slices of samples, for every backend the same way.
//! * [`batch`]: refreshes as text, JSON and CSV.
//! * [`cost`]: what xprof itself uses.
//! * [`screen`]: pages for the terminal.
//! * [`inlined`]: what was compiled into what is on the screen.
//! * [`images`]: names of programs that no path of this machine leads to.

pub(crate) mod batch;
pub(crate) mod collect;
mod cost;
mod images;
mod inlined;
pub(crate) mod screen;
