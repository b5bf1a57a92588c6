//! `xprof record`: options -> recording plan -> session -> file.
//!
//! * [`values`], [`plan`]: what was typed, and what it means.
//! * [`control`]: signals, the child's end and `--control`, as events of one channel.
//! * [`output`]: names of files; [`writer`]: one recording being written.
//! * [`run`]: the loop between the session and the writer.

pub(crate) mod plan;
pub(crate) mod values;
