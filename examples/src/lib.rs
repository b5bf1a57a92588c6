//! Small programs that use the libraries; `cargo run --example NAME` runs one.
//!
//! * `busy_cpus`: samples the machine for a second and says how busy each CPU was.
//! * `record_kinds`: reads a recording and counts its records by kind, in time order.
