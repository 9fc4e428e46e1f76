//! The program itself, with an api that a test drives: what clients, Holdline's probe and SIGTERM get from it.

mod absences;
mod double;
mod sessions;
mod support;
mod transports;
mod whole;
