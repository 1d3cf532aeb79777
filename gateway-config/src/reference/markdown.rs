//! The reference of the rules language, as Markdown: docs/reference.md.

use std::fmt::Write as _;

use super::fields::ROOT;
use super::{Field, Map, Shape};

const HEAD: &str = "\
# The rules language

Every field, what it takes, what counts if it is left out, and an example. This page is written by `routecache schema --format
markdown` from what the checker itself knows; `routecache schema` prints the same as JSON Schema, for editors:

```yaml
# yaml-language-server: $schema=rules.schema.json
routes: [{ name: menu, match: { path: /menu }, cache: {} }]
```

- **Duration**: a number and its unit, `ms`, `s`, `m`, `h` or `d`, with nothing between; a bare number is seconds. Lifetimes are
  whole seconds.
- **Bucket**: a lifetime's name, defined below [`ttl`](#ttl).
- **Size**: a number and its unit, `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`; a bare number is bytes.
- **Template**: text with placeholders in braces, told [below](#templates).
- Unknown fields, values that don't fit and combinations without a meaning are errors; nothing is ignored.
";

/// The reference.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for map in ROOT.all() {
        section(map, &mut page);
    }
    page.push_str(include_str!("templates.md"));
    page
}

fn section(map: &Map, page: &mut String) {
    let title = if map.path.is_empty() { "The file".to_owned() } else { format!("Fields of `{}`", map.path) };
    let _ = write!(page, "\n## {title}\n\n{}\n", map.about);
    for given in map.fields {
        field(given, page);
    }
}

fn field(field: &Field, page: &mut String) {
    let _ = write!(page, "\n### `{}`\n\n{}", field.name, capital(&takes(field.shape)));
    match (field.needed, field.default, field.otherwise) {
        (true, ..) => page.push_str(". Needed."),
        (_, Some(default), _) => {
            let _ = write!(page, ". Default: `{default}`.");
        }
        (_, None, Some(words)) => {
            let _ = write!(page, ". Without it: {words}.");
        }
        (_, None, None) => page.push('.'),
    }
    let _ = write!(page, "\n\n{}\n\n```yaml\n{}\n```\n", field.about, field.example);
}

/// What a field takes, in words.
fn takes(shape: Shape) -> String {
    match shape {
        Shape::Exactly(number) => format!("the number {number}"),
        Shape::Text(what, _) => what.to_owned(),
        Shape::Word(words) => one_of(words),
        Shape::OnOff => "`on` or `off`".to_owned(),
        Shape::Duration(low, high) => format!("a duration from `{low}` to `{high}`"),
        Shape::Lifetime => "a duration in whole seconds".to_owned(),
        Shape::Ttl => "a bucket, or a duration in whole seconds".to_owned(),
        Shape::Number(low, high) => format!("a whole number from {low} to {high}"),
        Shape::Size(low, high) => format!("a size from `{low}` to `{high}`"),
        Shape::Fields => "a map".to_owned(),
        Shape::List(item, min, max) => {
            let most = if max < usize::MAX { format!(", at most {max}") } else { String::new() };
            let empty = if min == 0 { "; may be empty" } else { "" };
            format!("a list{most}{empty}; each item {}", takes(*item))
        }
        Shape::Map(map) => format!("a map: [fields](#{})", anchor(map.path)),
        Shape::Named(what, _, value) => format!("a map from {what} to {}", takes(*value)),
        Shape::Any(shapes) => shapes.iter().map(|one| takes(*one)).collect::<Vec<_>>().join(", or "),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// How hosts of Markdown name the anchor of a map's heading.
fn anchor(path: &str) -> String {
    let kept = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    format!("fields-of-{}", path.chars().filter(kept).collect::<String>())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}
