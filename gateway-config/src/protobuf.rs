//! A serialised `google.protobuf.Struct` as a tree: what Envoy hands to the filter when its configuration is one.

use prost::Message as _;
use prost_types::{Struct, Value, value};

use crate::json::number;
use crate::tree::{Entry, Kind, Node};

/// Whether these bytes can be a `Struct` with at least one field, and so can't be JSON.
///
/// Each field of a `Struct` is a map entry: tag `0A`, a length, and in it the name and the value, whose tag is `12`.
/// JSON may begin with `0A` (a line end), but holds no `12`: outside of strings only 09, 0A, 0D and 20 are white space
/// (RFC 8259 §2), inside them control characters are escaped (§7).
pub(crate) fn looks_like_struct(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x0A) && bytes.contains(&0x12)
}

/// Decodes a `Struct`; `None` when the bytes aren't one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Node> {
    Struct::decode(bytes).ok().map(map)
}

fn map(fields: Struct) -> Node {
    let entries = fields.fields.into_iter().map(|(name, field)| Entry { name, span: None, value: node(field) });
    Node::new(Kind::Map(entries.collect()))
}

/// Recursion is bounded: prost refuses messages nested deeper than 100.
fn node(value: Value) -> Node {
    Node::new(match value.kind {
        None | Some(value::Kind::NullValue(_)) => Kind::Null,
        Some(value::Kind::BoolValue(value)) => Kind::Bool(value),
        Some(value::Kind::NumberValue(value)) => number(value),
        Some(value::Kind::StringValue(text)) => Kind::Text(text),
        Some(value::Kind::ListValue(list)) => Kind::List(list.values.into_iter().map(node).collect()),
        Some(value::Kind::StructValue(fields)) => return map(fields),
    })
}
