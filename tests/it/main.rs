//! Everything that needs a real socket or a real process: one binary, a module a subject.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod admin;
#[cfg(feature = "foreign-clients")]
mod browser;
mod capacity;
#[cfg(feature = "foreign-clients")]
mod clients;
mod commands;
#[cfg(feature = "demo")]
mod demo;
mod drain;
mod faults;
mod heartbeats;
mod in_process;
mod lifecycle;
#[cfg(feature = "demo")]
mod live;
mod long_poll;
#[cfg(feature = "demo")]
mod losses;
mod not_a_configuration;
mod overload;
#[cfg(feature = "foreign-clients")]
mod page;
mod pauses;
mod placement;
mod processes;
#[cfg(feature = "foreign-clients")]
mod recipes;
mod reload;
mod reload_renamed;
mod reload_under_way;
#[cfg(feature = "demo")]
mod scaling;
mod security;
#[cfg(feature = "demo")]
mod soak;
mod standstill;
mod streams;
mod system_calls;
mod tls;
mod torn_frames;
#[cfg(all(feature = "foreign-clients", feature = "demo"))]
mod wall;
