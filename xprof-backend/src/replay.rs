//! `replay:FILE`: a recording read back through the same trait, as fast as it is taken.
