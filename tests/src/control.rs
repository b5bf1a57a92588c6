//! The fifos of `record --control`, and what is said through them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

/// The fifos `ctl` and `ack` in a folder.
#[derive(Debug)]
pub struct Control {
    commands: File,
    answers: BufReader<File>,
}

impl Control {
    /// Makes them; open for both directions, so that neither side waits for the other.
    pub fn new(dir: &Path) -> Control {
        crate::stdout(Command::new("mkfifo").args(["ctl", "ack"]).current_dir(dir));
        let open = |name: &str| OpenOptions::new().read(true).write(true).open(dir.join(name)).expect("a fifo");
        Control { commands: open("ctl"), answers: BufReader::new(open("ack")) }
    }

    /// Sends a command.
    pub fn send(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).expect("the fifo takes a line");
    }

    /// Sends a command and takes the answer to it.
    pub fn say(&mut self, command: &str) {
        self.send(command);
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        assert_eq!(line, "ack\n", "{command}");
    }
}
