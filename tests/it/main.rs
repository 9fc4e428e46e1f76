//! Everything that needs sockets or processes: one binary, a module a subject.

#[path = "../support/mod.rs"]
mod support;

mod processes;
