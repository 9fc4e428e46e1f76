//! What one gateway takes on: open files, memory, and how much of each address.

pub(crate) mod addresses;
pub(crate) mod descriptors;
pub(crate) mod memory;
pub(crate) mod permit;
