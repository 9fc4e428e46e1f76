//! Inputs that Holdline must survive, a test a row of docs/security.md, each on a real socket.

mod http;
mod raw;
