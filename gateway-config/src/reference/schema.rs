//! The rules language as JSON Schema (2020-12), for editors: they complete fields and words, show what each means, and mark what
//! can't be right. What needs more than the shape (captures that a key lacks, rules that hide each other) is `check`'s.

use serde_json::{Map as Object, Value, json};

use super::fields::ROOT;
use super::{Field, Map, Shape};
use crate::files::json as to_json;
use crate::yaml;

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Object::new();
    definitions.insert(
        "duration".to_owned(),
        quantity("(ms|s|m|h|d)?", "A number and its unit, such as `50ms`, `5m` or `1h`; a bare number is seconds."),
    );
    definitions.insert(
        "lifetime".to_owned(),
        quantity(
            "(ms|s|m|h|d)?",
            "Whole seconds: a number and its unit, such as `30s`, `5m` or `1d`; a bare number is seconds.",
        ),
    );
    definitions.insert(
        "size".to_owned(),
        quantity(
            "(KiB|MiB|GiB|kB|MB|GB|B)?",
            "A number and its unit, such as `64KiB` or `8MiB`; a bare number is bytes.",
        ),
    );
    let bucket = json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$", "description": "The name of a bucket.", "examples": ["short", "default", "long"] });
    definitions.insert("ttl".to_owned(), json!({ "anyOf": [bucket, { "$ref": "#/$defs/lifetime" }] }));
    for map in ROOT.all().into_iter().skip(1) {
        definitions.insert(name_of(map), object(map));
    }
    let mut root = object(&ROOT);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routecache rules",
    });
    if let (Value::Object(root), Value::Object(mut whole)) = (&mut root, head) {
        whole.append(root);
        whole.insert("$defs".to_owned(), Value::Object(definitions));
        return Value::Object(whole);
    }
    root
}

/// `routes[].cache` → `routes.cache`: brackets would have to be escaped in a reference.
fn name_of(map: &Map) -> String {
    map.path.replace("[]", "")
}

fn quantity(units: &str, description: &str) -> Value {
    json!({
        "description": description,
        "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": format!("^[0-9]+{units}$") },
        ],
    })
}

fn object(map: &'static Map) -> Value {
    let fields = map.fields.iter().map(|field| (field.name.to_owned(), described(field)));
    let mut object = json!({
        "type": "object",
        "description": map.about,
        "properties": fields.collect::<Object<_, _>>(),
        "additionalProperties": false,
    });
    let needed: Vec<_> = map.fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
    if let Value::Object(object) = &mut object {
        if !needed.is_empty() {
            object.insert("required".to_owned(), json!(needed));
        }
        if !map.one_of.is_empty() {
            let alternatives: Vec<_> = map.one_of.iter().map(|name| json!({ "required": [name] })).collect();
            object.insert("oneOf".to_owned(), json!(alternatives));
        }
    }
    object
}

/// A field's shape, with what editors show beside it.
fn described(field: &Field) -> Value {
    let mut value = shape(field.shape);
    if let Value::Object(value) = &mut value {
        value.insert("description".to_owned(), json!(field.about));
        if let Some(default) = field.default.and_then(parsed) {
            value.insert("default".to_owned(), default);
        }
        let example = parsed(field.example).and_then(|example| example.get(field.name).cloned());
        value.insert("examples".to_owned(), json!([example]));
    }
    value
}

fn shape(of: Shape) -> Value {
    match of {
        Shape::Exactly(number) => json!({ "const": number }),
        Shape::Text(_, "") => json!({ "type": "string" }),
        Shape::Text(_, pattern) => json!({ "type": "string", "pattern": pattern }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::OnOff => json!({ "enum": ["on", "off", true, false] }),
        Shape::Duration(..) => json!({ "$ref": "#/$defs/duration" }),
        Shape::Lifetime => json!({ "$ref": "#/$defs/lifetime" }),
        Shape::Ttl => json!({ "$ref": "#/$defs/ttl" }),
        Shape::Number(low, high) => {
            json!({ "type": "integer", "minimum": low.parse::<u64>().ok(), "maximum": high.parse::<u64>().ok() })
        }
        Shape::Size(..) => json!({ "$ref": "#/$defs/size" }),
        Shape::Fields => json!({ "type": "object" }),
        Shape::List(item, min, max) => {
            let mut list = json!({ "type": "array", "items": shape(*item), "minItems": min });
            if let (Value::Object(list), true) = (&mut list, max < usize::MAX) {
                list.insert("maxItems".to_owned(), json!(max));
            }
            list
        }
        Shape::Map(map) => json!({ "$ref": format!("#/$defs/{}", name_of(map)) }),
        Shape::Named(_, pattern, value) => {
            json!({ "type": "object", "patternProperties": { pattern: shape(*value) }, "additionalProperties": false })
        }
        Shape::Any(shapes) => json!({ "anyOf": shapes.iter().map(|one| shape(*one)).collect::<Vec<_>>() }),
    }
}

/// A piece of YAML as JSON.
fn parsed(text: &str) -> Option<Value> {
    yaml::parse(text).ok().map(|node| to_json(&node))
}
