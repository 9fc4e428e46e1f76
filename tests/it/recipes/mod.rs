//! The pages below `docs/` that tell the reader what to type: each is typed here as it stands, in a copy of its directory.
//!
//! Of a page, the blocks that begin with ```` ```sh ```` are typed one after the other; those marked ```` ```sh install ```` are what `tests/run` has done.
//! A ```` ```text ```` block is what the reader sees then: each of its lines must be printed by the last block typed, in that order, where `…` stands for anything.

#[cfg(feature = "demo")]
mod guide;
mod page;
mod servers;
mod socket_io;
