//! Who was mapped where, when.
