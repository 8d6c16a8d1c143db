use serde_json::Value;

use super::*;

/// What a report looks like: `docs/report.md` shows it.
const EXAMPLE: &str = include_str!("../../report.example.json");

/// With `UPDATE_SCHEMA` set, the file is written instead.
#[test]
fn see_10_the_schema_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report)).expect("it is JSON") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/report.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).expect("the file can be written");
    }
    let file = std::fs::read_to_string(path).expect("the file is there");
    assert!(file == schema, "report.schema.json is stale: UPDATE_SCHEMA=1 cargo test -p glidepath --lib schema");
}

#[test]
fn see_10_the_example_is_as_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../report.schema.json")).expect("it is JSON");
    let schema = jsonschema::validator_for(&schema).expect("it is a schema");
    let mut example: Value = serde_json::from_str(EXAMPLE).expect("it is JSON");
    let wrong: Vec<_> = schema.iter_errors(&example).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    example["outcome"] = "perhaps".into();
    assert!(!schema.is_valid(&example), "the schema takes anything");
}
