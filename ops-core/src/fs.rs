//! Durable file work: atomic writes, folder fsync, symlink swap, atomic exchange, free space.
