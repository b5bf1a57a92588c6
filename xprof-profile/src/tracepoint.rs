//! Tracepoint formats and their print formats.
