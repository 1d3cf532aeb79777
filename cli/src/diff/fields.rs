//! What was written differently.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use serde_json::Value;

/// A field that has another value now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// The way to it, such as `cache.ttl`.
    pub path: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
    /// Whether it alone gives the rule another fingerprint; unknown where it can't be changed alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decides: Option<bool>,
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            None => "(none)".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let harmless = if self.decides == Some(false) { " (by itself, entries would stay)" } else { "" };
        write!(f, "{}: {} → {}{harmless}", self.path, shown(&self.old), shown(&self.new))
    }
}

/// The fields that differ. Maps are gone into, lists aren't: their items mean something together.
pub fn differing(old: &Value, new: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    compare("", Some(old), Some(new), &mut fields);
    fields
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<Field>) {
    if old == new {
        return;
    }
    let (Some(Value::Object(before)), Some(Value::Object(after))) = (old, new) else {
        fields.push(Field { path: path.to_owned(), old: old.cloned(), new: new.cloned(), decides: None });
        return;
    };
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(&below, before.get(name), after.get(name), fields);
    }
}

/// A value with one field as it is elsewhere.
pub fn with(value: &Value, field: &Field) -> Value {
    let mut value = value.clone();
    let mut place = &mut value;
    let mut names: Vec<&str> = field.path.split('.').collect();
    let Some(last) = names.pop() else { return value };
    for name in names {
        place = match place.as_object_mut() {
            Some(map) => map.entry(name).or_insert_with(|| Value::Object(Default::default())),
            None => return value,
        };
    }
    if let Some(map) = place.as_object_mut() {
        match &field.new {
            Some(new) => drop(map.insert(last.to_owned(), new.clone())),
            None => drop(map.remove(last)),
        }
    }
    value
}
