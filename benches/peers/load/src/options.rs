//! `key=value` arguments.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Failure;
use crate::cpu::Cpu;
use crate::stream::Target;

pub(crate) struct Options(HashMap<String, String>);

impl Options {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Self {
        Options(args.filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).collect())
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Failure> {
        let usage = crate::USAGE;
        self.get(key).ok_or_else(|| format!("`{key}=…` is missing\n{usage}").into())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Result<u32, Failure> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("`{key}={text}` is not a number").into())
    }

    pub(crate) fn address(&self, key: &str) -> Result<SocketAddr, Failure> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("`{key}={text}` is not an address like 127.0.0.1:8080").into())
    }

    /// How long the load lasts.
    pub(crate) fn span(&self) -> Result<Duration, Failure> {
        Ok(Duration::from_secs(self.number("seconds")?.into()))
    }

    pub(crate) fn target(&self) -> Result<Target, Failure> {
        Target::new(self.address("target")?, self.get("ca").map(str::as_ref))
    }

    /// The processes whose CPU time is of interest, from now on.
    pub(crate) fn cpu(&self) -> Result<Cpu, Failure> {
        Cpu::of(self.get("pids").unwrap_or_default())
    }
}
