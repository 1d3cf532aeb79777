//! JSON text as a tree. Names that come twice are kept, so that the checker can object to them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::mistake::{Mistake, Mistakes, What};
use crate::tree::{Entry, Kind, Node, Span};

/// Reads one JSON value and nothing after it.
pub(crate) fn parse(text: &[u8]) -> Result<Node, Mistakes> {
    serde_json::from_slice(text).map_err(|error| {
        let span = Span { line: error.line(), column: error.column().max(1), length: 1 };
        // serde_json ends its messages with the place, which we give in front.
        let message = error.to_string();
        let detail = message.split_once(" at line ").map_or(message.as_str(), |(detail, _)| detail);
        Mistake::new("", Some(span), What::NotJson(detail.to_owned())).into()
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(Self::new)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        // serde_json hands over positive numbers as u64, so this one is negative, and no rule wants it exactly.
        Ok(u64::try_from(value).map_or_else(|_| number(value as f64), Kind::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        Ok(number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = entries.next_entry()? {
            map.push(Entry { name, span: None, value });
        }
        Ok(Kind::Map(map))
    }
}

/// A number that may be whole: protobuf's `Value` and `30.0` in JSON are doubles.
pub(crate) fn number(value: f64) -> Kind {
    /// 2^53: up to here every whole double is exactly the number that was meant.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&value) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and within 0..=2^53")]
        return Kind::Integer(value as u64);
    }
    Kind::Float(value)
}
