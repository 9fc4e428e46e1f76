//! Requests: what each is, where it goes, and what it is answered or turned into.

pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod client;
pub(crate) mod direct;
pub(crate) mod headers;
pub(crate) mod judge;
pub(crate) mod opening;
pub(crate) mod outgoing;
pub(crate) mod plain;
pub(crate) mod poll;
pub(crate) mod relay;
pub(crate) mod seated;
pub(crate) mod service;
pub(crate) mod tap;
pub(crate) mod unasked;
