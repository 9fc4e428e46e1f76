//! The guards under hyper: what a client's connection is read through ([`tap`]), and a backend's that plain requests use ([`checked`]).
//! hyper sees only bytes that can be read in one way (`core::wire::guard`).

pub(super) mod checked;
pub(super) mod tap;
