//! YAML as a person would write it.

use serde_json::Value;

/// A value in block style, to stand on lines of its own.
pub(super) fn block(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let field = |(name, value): (&String, &Value)| match value {
                Value::Object(inner) if !inner.is_empty() => format!("{}:\n{}", text(name), indented(&block(value), 2)),
                Value::Array(inner) if !inner.is_empty() => format!("{}:\n{}", text(name), indented(&block(value), 2)),
                _ => format!("{}: {}", text(name), block(value)),
            };
            fields.iter().map(field).collect::<Vec<_>>().join("\n")
        }
        Value::Array(items) if !items.is_empty() => items.iter().map(item).collect::<Vec<_>>().join("\n"),
        Value::String(string) => text(string),
        // What is left is written the same in JSON: numbers, `true`, `null`, `{}`, `[]`.
        other => other.to_string(),
    }
}

/// A value as an item of a list.
pub(super) fn item(value: &Value) -> String {
    let inner = indented(&block(value), 2);
    format!("- {}", inner.trim_start())
}

/// Text as a scalar: plain where that can't be misread, else in quotes. A JSON string is a YAML one.
pub(crate) fn text(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let begins_with_a_letter = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let means_something_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if begins_with_a_letter
        && text.bytes().all(plain)
        && !means_something_else.iter().any(|word| text.eq_ignore_ascii_case(word))
    {
        return text.to_owned();
    }
    quoted(text)
}

/// Text as a JSON string, which is a YAML one too: what YAML 1.1 reads as a line end or refuses is escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::new();
    for char in Value::from(text).to_string().chars() {
        match char {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => out += &format!("\\u{:04x}", u32::from(char)),
            char => out.push(char),
        }
    }
    out
}

/// JSON for readers: what fits on a line stands on one.
pub(super) fn json(value: &Value) -> String {
    const COLUMNS: usize = 100;
    let spread = |open: &str, items: Vec<String>, close: &str| {
        let line = format!("{open}{}{close}", items.join(", "));
        if line.len() <= COLUMNS && !line.contains('\n') {
            return line;
        }
        format!("{}\n{}\n{}", open.trim_end(), indented(&items.join(",\n"), 2), close.trim_start())
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let field = |(name, value): (&String, &Value)| format!("{}: {}", quoted(name), json(value));
            spread("{ ", fields.iter().map(field).collect(), " }")
        }
        Value::Array(items) if !items.is_empty() => spread("[", items.iter().map(json).collect(), "]"),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Every line moved to the right.
pub(super) fn indented(text: &str, columns: usize) -> String {
    let indent = " ".repeat(columns);
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{indent}{line}") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(all(test, feature = "files"))]
mod tests {
    use serde_json::json as of;

    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same() {
        let value = of!({
            "plain": "api.example.com", "path": "/etc/envoy/x.wasm", "odd": "a: b #c", "no": "no", "number": "12",
            "control": "tab\tquote\"\u{1}é\u{85}\u{2028}\u{feff}", "empty": "", "none": null, "yes": true, "float": 1.5, "negative": -1.25,
            "lists": [[1, 2], [], [{"a": 1, "b": [3]}, {}]], "map": {"a": {"b": {}}},
            "@type": "type.googleapis.com/google.protobuf.StringValue",
        });
        assert_eq!(crate::files::json(&crate::yaml::parse(&block(&value)).unwrap()), value);
        assert_eq!(serde_json::from_str::<Value>(&json(&value)).unwrap(), value);
    }
}
