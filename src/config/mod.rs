//! Configuration: a YAML file, checked into the model that everything else runs on.
//!
//! `raw` mirrors the file and knows the defaults, `read` turns errors of shape into ours (one at a time, with a snippet), `validate`
//! turns `raw` into [`model`] and tells all errors of meaning at once. Past this border no `Option` means "default".

mod change;
mod error;
mod located;
pub mod model;
mod raw;
mod raw_fleet;
mod raw_scale;
mod read;
mod schema;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod units;
mod validate;
mod watch;

use std::path::{Path, PathBuf};

pub use change::NeedsRestart;
pub use error::{ConfigError, MeaningError, Problem, ShapeError};
use model::Config;
pub use schema::schema;
pub use watch::Watched;

use crate::files;

/// Whether the programs of process fleets are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// They must be there and executable.
    LookUp,
    /// They may be missing here: the file is for another machine, or for a test.
    Trust,
}

/// A configuration file, and what it said when it was read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// As it was named.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl ConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            files::read_text(path, files::CONFIG_MAX).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Ok(ConfigFile { path: path.to_owned(), text })
    }

    /// Checks it. Relative paths in it start at its directory.
    ///
    /// # Errors
    /// [`ConfigError`]; its text names file, line, value and remedy.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        let failed = |source| ConfigError::Read { path: self.path.clone(), source };
        let whole = std::path::absolute(&self.path).map_err(failed)?;
        parse(&self.text, &self.path.display().to_string(), whole.parent().unwrap_or(Path::new("/")))
    }
}

/// Reads and checks a configuration file. Relative paths in it start at its directory.
///
/// # Errors
/// [`ConfigError`]; its text names file, line, value and remedy.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    ConfigFile::read(path)?.parse()
}

/// Checks the text of a configuration. `name` stands for it in errors; relative paths start at `base`.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(text: &str, name: &str, base: &Path) -> Result<Config, ConfigError> {
    parse_with(text, name, base, Programs::LookUp)
}

/// [`parse`], with a choice about programs.
///
/// # Errors
/// [`ConfigError`].
pub fn parse_with(text: &str, name: &str, base: &Path, programs: Programs) -> Result<Config, ConfigError> {
    let raw = read::read(text, name)?;
    Ok(validate::validate(&raw, name, base, programs)?)
}
