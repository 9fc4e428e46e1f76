//! The JSON Schema of the configuration file.

use schemars::schema_for;

use super::raw::Config;

/// The schema as indented JSON, for editors and `holdline config schema`.
pub fn schema() -> String {
    format!("{:#}", schema_for!(Config).as_value())
}
