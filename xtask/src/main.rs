#![forbid(unsafe_code)]
//! Tasks of this repository that cargo has no command for. `cargo xtask dist` makes what is released.

mod dist;
mod manual;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Make static binaries and .deb packages in target/dist, with man pages and completions
    Dist(dist::Options),
    /// Write man pages and completions to target/dist
    Manual,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Dist(options) => dist::run(&options),
        Task::Manual => manual::write(&dist::directory()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
