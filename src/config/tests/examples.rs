//! The files of `config/`, and the schema that editors check files by.

use std::path::Path;

use serde_json::Value;

use super::model_of;
use crate::config::{Programs, parse_with, schema};

const EXAMPLES: [&str; 5] = ["holdline", "chat", "sse", "process", "live"];

fn text_of(example: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{example}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_example_is_accepted() {
    let listed = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap();
    let yaml = listed.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "yaml")).count();
    assert_eq!(yaml, EXAMPLES.len(), "an example is not in this list");
    for example in EXAMPLES {
        if let Err(error) = parse_with(&text_of(example), example, Path::new("/srv/holdline"), Programs::Trust) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_commented_example_shows_the_defaults() {
    let least = r#"
listeners: [ { address: "0.0.0.0:8080" } ]
fleets:
  chat:
    backends: { static: [ { address: "127.0.0.1:9001" }, { id: big, address: "127.0.0.1:9002", capacity: 5000 } ] }
    capacity: 1000
"#;
    assert_eq!(format!("{:#?}", model_of(&text_of("holdline"))), format!("{:#?}", model_of(least)));
}

#[test]
fn the_commented_example_shows_every_key() {
    let (schema, text) = (parsed_schema(), text_of("holdline"));
    let mut keys = Vec::new();
    collect_keys(&schema, &mut keys);
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        let shown = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)))
            .any(|word| word.strip_suffix(':') == Some(&key));
        assert!(shown, "config/holdline.yaml does not show `{key}`");
    }
}

#[test]
fn examples_conform_to_the_schema() {
    let schema = parsed_schema();
    for example in EXAMPLES {
        let value: Value = serde_saphyr::from_str(&text_of(example)).unwrap();
        conforms(&schema, &schema, &value, example);
    }
}

#[test]
fn the_schema_describes_every_key_and_knows_defaults() {
    let schema = parsed_schema();
    let mut objects = vec![&schema];
    objects.extend(schema["$defs"].as_object().unwrap().values());
    for object in objects {
        for (key, property) in object["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "`{key}` has no description: {property}");
        }
        assert!(object["properties"].is_null() || object["additionalProperties"] == false, "{object}");
    }
    let defs = &schema["$defs"];
    assert_eq!(defs["Queue"]["properties"]["timeout"]["default"], "10s");
    assert_eq!(defs["Scale"]["properties"]["max"]["default"], 20);
    assert_eq!(defs["Timeouts"]["properties"]["idle"]["default"], "none");
    assert_eq!(defs["Period"]["pattern"], "^[0-9]+(ms|s|m|h)$");
}

fn parsed_schema() -> Value {
    serde_json::from_str(&schema()).unwrap()
}

/// Names of properties in all of the schema's objects.
fn collect_keys(schema: &Value, keys: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| collect_keys(value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_keys(value, keys)),
        _ => {}
    }
}

/// Keys of mappings, items of lists and words of enumerations, through references.
fn conforms(root: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{at}: {reference}"));
        return conforms(root, target, value, at);
    }
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let property =
                    schema["properties"].get(key).or_else(|| Some(&schema["additionalProperties"]).filter(|s| s.is_object()));
                let property = property.unwrap_or_else(|| panic!("{at}: the schema has no `{key}`: {schema}"));
                conforms(root, property, inner, &format!("{at}.{key}"));
            }
        }
        Value::Array(list) => list.iter().for_each(|item| conforms(root, &schema["items"], item, at)),
        Value::String(word) => {
            let words = schema["oneOf"].as_array().map(|all| all.iter().map(|one| &one["const"]).collect::<Vec<_>>());
            assert!(words.is_none_or(|words| words.contains(&&Value::from(word.as_str()))), "{at}: {word} is none of {schema}");
        }
        _ => {}
    }
}
