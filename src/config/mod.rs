//! Configuration: a YAML file, validated into the model that everything else uses.
//!
//! `raw` mirrors the file and has the defaults, `read` parses it and reports the first syntax error with a snippet, `validate` turns `raw`
//! into [`model`] and reports all semantic errors. In the model no `Option` means "default".

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

/// Whether programs and files that the configuration names are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// They must exist and be usable.
    LookUp,
    /// They may be missing: the configuration is for another machine, or for a test.
    Trust,
}

/// A configuration file and its text when it was read.
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

    /// Validates it. Relative paths in it start at its directory.
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
