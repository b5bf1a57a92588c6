//! What /proc and /sys say: running processes as records, the machine, the kernel's own maps.
