//! The JSON Schema of the configuration file.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, schema_for};
use serde_json::Value;

use super::raw::Config;

/// The schema as indented JSON, for editors and `holdline config schema`.
pub fn schema() -> String {
    let mut schema = schema_for!(Config);
    RecursiveTransform(without_null).transform(&mut schema);
    format!("{:#}", schema.as_value())
}

/// A key may be left out, but not be null; schemars cannot tell the two apart.
fn without_null(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        let object = schema.ensure_object();
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}
