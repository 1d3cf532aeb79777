//! The rules as they are after everything that is short for something else has been written out, as YAML in the order of the
//! file.

use crate::render::text;
use crate::tree::{Kind, Node};

/// What fits into so many columns stands on one line.
const COLUMNS: usize = 100;

/// A value in block style, a small one on a line.
pub(crate) fn yaml(node: &Node) -> String {
    let field = |name: &str, value: &Node| {
        let line = format!("{}: {}", text(name), flow(value));
        let collection = matches!(&value.kind, Kind::Map(entries) if !entries.is_empty())
            || matches!(&value.kind, Kind::List(items) if !items.is_empty());
        // `routes` and what is in it are read from the top, however little it is.
        if collection && (line.chars().count() > COLUMNS || name == "routes") {
            format!("{}:\n{}", text(name), indented(&yaml(value)))
        } else {
            line
        }
    };
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            entries.iter().map(|entry| field(&entry.name, &entry.value)).collect::<Vec<_>>().join("\n")
        }
        Kind::List(items) if !items.is_empty() => {
            items.iter().map(|item| format!("- {}", indented(&yaml(item)).trim_start())).collect::<Vec<_>>().join("\n")
        }
        _ => flow(node),
    }
}

fn flow(node: &Node) -> String {
    match &node.kind {
        Kind::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Kind::Map(entries) => {
            let fields = entries.iter().map(|entry| format!("{}: {}", text(&entry.name), flow(&entry.value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Kind::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Kind::Text(value) => text(value),
        _ => node.shown(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use crate::load_yaml;

    #[test]
    fn what_is_written_out_means_the_same() {
        for text in [include_str!("../tests/valid/everything.yaml"), include_str!("../examples/users-and-orders.yaml")]
        {
            let loaded = load_yaml(text, "rules.yaml", &|_| None).unwrap();
            let written = loaded.expanded();
            let again = load_yaml(&written, "rules.yaml", &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(again.policy, loaded.policy, "{written}");
        }
    }
}
