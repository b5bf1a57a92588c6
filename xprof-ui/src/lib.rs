//! How people see a profile: tables as text, JSON and CSV, and the lines of `script`. Draws, never opens.
#![forbid(unsafe_code)]
