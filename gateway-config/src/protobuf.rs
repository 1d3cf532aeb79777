//! A serialised `google.protobuf.Struct` as a tree: what Envoy hands to the filter when its configuration is one.
//!
//! It is three small messages, so they are read here: a library for all messages is 5 % of the filter.

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
    map(bytes, DEPTH_MAX).map(Node::new)
}

/// Values inside of values: as deep as JSON may be (serde_json).
const DEPTH_MAX: u8 = 127;

/// A `Struct`: its field 1 is an entry of the map, with a name (1) and a value (2).
fn map(bytes: &[u8], depth: u8) -> Option<Kind> {
    let mut entries = Vec::new();
    for (field, held) in fields(bytes)? {
        let (1, Held::Bytes(entry)) = (field, held) else { continue };
        let (mut name, mut value) = (String::new(), Node::new(Kind::Null));
        for (field, held) in fields(entry)? {
            match (field, held) {
                (1, Held::Bytes(bytes)) => name = text(bytes)?,
                (2, Held::Bytes(bytes)) => value = node(bytes, depth)?,
                _ => {}
            }
        }
        entries.push(Entry { name, span: None, value });
    }
    Some(Kind::Map(entries))
}

/// A `Value`: one of six fields says of which kind it is.
fn node(bytes: &[u8], depth: u8) -> Option<Node> {
    let depth = depth.checked_sub(1)?;
    let mut kind = Kind::Null;
    for (field, held) in fields(bytes)? {
        kind = match (field, held) {
            (1, Held::Varint(_)) => Kind::Null,
            (2, Held::Double(value)) => number(value),
            (3, Held::Bytes(bytes)) => Kind::Text(text(bytes)?),
            (4, Held::Varint(value)) => Kind::Bool(value != 0),
            (5, Held::Bytes(bytes)) => map(bytes, depth)?,
            (6, Held::Bytes(bytes)) => list(bytes, depth)?,
            (1..=6, _) => return None,
            _ => continue,
        };
    }
    Some(Node::new(kind))
}

/// A `ListValue`: its field 1 is an item.
fn list(bytes: &[u8], depth: u8) -> Option<Kind> {
    let mut items = Vec::new();
    for (field, held) in fields(bytes)? {
        if let (1, Held::Bytes(item)) = (field, held) {
            items.push(node(item, depth)?);
        }
    }
    Some(Kind::List(items))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// What a field of a message holds, by its wire type.
enum Held<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
    /// Four bytes: no field here has them.
    Fixed32,
}

/// The fields of a message, each with its number.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Held<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let held = match tag & 7 {
            0 => Held::Varint(varint(&mut bytes)?),
            1 => Held::Double(f64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Held::Bytes(take(&mut bytes, len)?)
            }
            5 => take(&mut bytes, 4).map(|_| Held::Fixed32)?,
            _ => return None,
        };
        fields.push((tag >> 3, held));
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// Seven bits a byte, the lowest first, at most ten bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use prost_types::{ListValue, Struct, Value, value};

    use super::*;

    fn of(kind: value::Kind) -> Value {
        Value { kind: Some(kind) }
    }

    /// Any value, as the library makes it and as it reads.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(value::Kind::NullValue(0)),
            any::<bool>().prop_map(value::Kind::BoolValue),
            any::<f64>().prop_filter("NaN equals nothing", |value| !value.is_nan()).prop_map(value::Kind::NumberValue),
            ".{0,300}".prop_map(value::Kind::StringValue),
        ];
        leaf.prop_map(of).prop_recursive(6, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6)
                    .prop_map(|values| of(value::Kind::ListValue(ListValue { values }))),
                prop::collection::btree_map(".{0,9}", inner, 0..6)
                    .prop_map(|fields| of(value::Kind::StructValue(Struct { fields }))),
            ]
        })
    }

    fn expected(value: &Value) -> Node {
        Node::new(match value.kind.clone() {
            None | Some(value::Kind::NullValue(_)) => Kind::Null,
            Some(value::Kind::BoolValue(value)) => Kind::Bool(value),
            Some(value::Kind::NumberValue(value)) => number(value),
            Some(value::Kind::StringValue(text)) => Kind::Text(text),
            Some(value::Kind::ListValue(list)) => Kind::List(list.values.iter().map(expected).collect()),
            Some(value::Kind::StructValue(fields)) => {
                let entry =
                    |(name, value): (&String, &Value)| Entry { name: name.clone(), span: None, value: expected(value) };
                Kind::Map(fields.fields.iter().map(entry).collect())
            }
        })
    }

    proptest! {
        #[test]
        fn what_a_library_writes_reads_as_it_was_meant(value in values()) {
            let fields = [("a".to_owned(), value)].into();
            let written = Struct { fields };
            let map = of(value::Kind::StructValue(written.clone()));
            prop_assert_eq!(decode(&written.encode_to_vec()), Some(expected(&map)));
        }

        /// Whatever they are, and torn at any place.
        #[test]
        fn other_bytes_are_refused_or_read_and_nothing_panics(value in values(), cut in 0_usize..400, noise: Vec<u8>) {
            let fields = [("a".to_owned(), value)].into();
            let bytes = Struct { fields }.encode_to_vec();
            let torn = bytes.get(..cut.min(bytes.len())).unwrap_or_default();
            if let Ok(read) = Struct::decode(torn) {
                prop_assert_eq!(decode(torn), Some(expected(&of(value::Kind::StructValue(read)))));
            }
            let _ = decode(&noise);
        }
    }

    /// A field of bytes.
    fn field(tag: u8, held: &[u8]) -> Vec<u8> {
        let (mut bytes, mut len) = (vec![tag], held.len());
        while len >= 0x80 {
            bytes.push(u8::try_from(len & 0x7F).unwrap() | 0x80);
            len >>= 7;
        }
        bytes.push(u8::try_from(len).unwrap());
        [&bytes, held].concat()
    }

    #[test]
    fn values_inside_of_values_end_somewhere() {
        let nested = |depth: usize| {
            let mut value = vec![0x20, 1];
            for _ in 0..depth {
                value = field(0x32, &field(0x0A, &value));
            }
            field(0x0A, &[field(0x0A, b"a"), field(0x12, &value)].concat())
        };
        assert_eq!(
            decode(&nested(2)),
            Struct::decode(&*nested(2)).ok().map(|fields| { expected(&of(value::Kind::StructValue(fields))) })
        );
        assert!(decode(&nested(100)).is_some());
        assert_eq!((decode(&nested(200)), decode(&nested(5000))), (None, None));
    }
}
