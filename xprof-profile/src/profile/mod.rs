//! Samples added up into rows.
