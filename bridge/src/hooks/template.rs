//! Texts with places that are filled from a delivery: `dish:{/entry/id}`, `{header.x-event}`.
//!
//! `{/a/b}` is the value at a JSON pointer (RFC 6901), where `*` stands for each member of an array or object; `{{` and `}}`
//! are single braces. Two pointers that share a `*` mean the same member: `{/items/*/type}:{/items/*/id}` gives one text per
//! item. In tags, values are escaped as the filter escapes them.

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::people::escape;

/// Members that filling one template may look at: two arrays beside each other multiply.
const MEMBERS_MAX: usize = 100_000;

/// A parsed template.
pub struct Template {
    parts: Vec<Part>,
    /// The first bytes of texts that follow a value; inside values they are escaped.
    stops: Vec<u8>,
}

enum Part {
    Text(String),
    Pointer(Vec<Step>),
    Header(HeaderName),
}

/// A step of a pointer.
enum Step {
    Member(String),
    /// Each member; the number is the same for the same `*` of several pointers.
    Each(usize),
}

/// The delivery that a template is filled from.
pub struct Delivery<'d> {
    /// The fields of its header.
    pub headers: &'d HeaderMap,
    /// Its body.
    pub payload: &'d Value,
}

/// What a template comes to is more than one call should purge.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let failed = |what: &str| format!("`{}`: {what}", text.escape_debug());
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut stars: Vec<String> = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal += before;
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let (name, after) = from
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or_else(|| failed("a brace stands alone; `{{` is a brace itself"))?;
            if literal.is_empty() && !parts.is_empty() {
                return Err(failed("two values need text between them"));
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(match name.strip_prefix("header.").map(HeaderName::try_from) {
                Some(Ok(header)) => Part::Header(header),
                None if name.starts_with('/') => Part::Pointer(pointer(name, &mut stars)),
                _ => return Err(failed("a value is `{/a/json/pointer}` or `{header.name}`")),
            });
            rest = after;
        }
        literal += rest;
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.is_empty() {
            return Err(failed("it is empty"));
        }
        let stops = parts.iter().skip(1).filter_map(|part| match part {
            Part::Text(text) => text.bytes().next(),
            _ => None,
        });
        Ok(Self { stops: stops.collect(), parts })
    }

    /// Whether it can't be filled without the payload.
    pub fn needs_payload(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Pointer(_)))
    }

    /// Every text that it comes to, as tags: none where a value is missing or empty.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn tags(&self, from: &Delivery<'_>, max: usize) -> Result<Vec<String>, TooMany> {
        Filling { from, stops: Some(&self.stops), max, members: 0, found: Vec::new() }.all(&self.parts)
    }

    /// The same with values as they are.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn texts(&self, from: &Delivery<'_>, max: usize) -> Result<Vec<String>, TooMany> {
        Filling { from, stops: None, max, members: 0, found: Vec::new() }.all(&self.parts)
    }
}

/// Steps of a pointer; `stars` are those seen so far, each as the pointer up to it.
fn pointer(text: &str, stars: &mut Vec<String>) -> Vec<Step> {
    let mut path = String::new();
    let step = |raw: &str| {
        path += "/";
        path += raw;
        if raw != "*" {
            return Step::Member(raw.replace("~1", "/").replace("~0", "~"));
        }
        let number = stars.iter().position(|star| *star == path).unwrap_or_else(|| {
            stars.push(path.clone());
            stars.len() - 1
        });
        Step::Each(number)
    };
    text.split('/').skip(1).map(step).collect()
}

struct Filling<'f> {
    from: &'f Delivery<'f>,
    /// Nothing where values aren't escaped.
    stops: Option<&'f [u8]>,
    max: usize,
    members: usize,
    found: Vec<String>,
}

impl Filling<'_> {
    fn all(mut self, parts: &[Part]) -> Result<Vec<String>, TooMany> {
        self.fill(parts, &mut String::new(), &mut Vec::new())?;
        Ok(self.found)
    }

    /// Appends what the parts come to, once for each member that a `*` may mean. `chosen` are the members that earlier ones
    /// mean, by the star's number.
    fn fill(&mut self, parts: &[Part], text: &mut String, chosen: &mut Vec<(usize, usize)>) -> Result<(), TooMany> {
        let Some((part, rest)) = parts.split_first() else {
            if self.found.len() >= self.max {
                return Err(TooMany);
            }
            self.found.push(text.clone());
            return Ok(());
        };
        match part {
            Part::Text(literal) => {
                let before = text.len();
                match self.stops {
                    Some(_) => literal.chars().for_each(|char| {
                        // A literal keeps its separators.
                        if char.is_ascii_graphic() {
                            text.push(char)
                        } else {
                            escape(char.encode_utf8(&mut [0; 4]), &[], text)
                        }
                    }),
                    None => *text += literal,
                }
                self.fill(rest, text, chosen)?;
                text.truncate(before);
                Ok(())
            }
            Part::Header(name) => {
                let value = self.from.headers.get(name).and_then(|value| value.to_str().ok());
                self.value(value.unwrap_or_default(), rest, text, chosen)
            }
            Part::Pointer(steps) => self.walk(self.from.payload, steps, rest, text, chosen),
        }
    }

    fn walk(
        &mut self,
        at: &Value,
        steps: &[Step],
        rest: &[Part],
        text: &mut String,
        chosen: &mut Vec<(usize, usize)>,
    ) -> Result<(), TooMany> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(TooMany);
        }
        match steps.split_first() {
            None => match at {
                Value::String(value) => self.value(value, rest, text, chosen),
                Value::Number(value) => self.value(&value.to_string(), rest, text, chosen),
                Value::Bool(value) => self.value(&value.to_string(), rest, text, chosen),
                Value::Null | Value::Array(_) | Value::Object(_) => Ok(()),
            },
            Some((Step::Member(name), steps)) => {
                let member = match at {
                    Value::Object(members) => members.get(name),
                    Value::Array(members) => name.parse().ok().and_then(|index: usize| members.get(index)),
                    _ => None,
                };
                member.map_or(Ok(()), |member| self.walk(member, steps, rest, text, chosen))
            }
            Some((Step::Each(star), steps)) => {
                let known = chosen.iter().find_map(|(of, index)| (of == star).then_some(*index));
                let members: Box<dyn Iterator<Item = &Value>> = match at {
                    Value::Array(members) => Box::new(members.iter()),
                    Value::Object(members) => Box::new(members.values()),
                    _ => return Ok(()),
                };
                if let Some(index) = known {
                    return members
                        .skip(index)
                        .take(1)
                        .try_for_each(|member| self.walk(member, steps, rest, text, chosen));
                }
                for (index, member) in members.enumerate() {
                    chosen.push((*star, index));
                    self.walk(member, steps, rest, text, chosen)?;
                    chosen.pop();
                }
                Ok(())
            }
        }
    }

    fn value(
        &mut self,
        value: &str,
        rest: &[Part],
        text: &mut String,
        chosen: &mut Vec<(usize, usize)>,
    ) -> Result<(), TooMany> {
        if value.is_empty() {
            return Ok(());
        }
        let before = text.len();
        match self.stops {
            Some(stops) => escape(value, stops, text),
            None => *text += value,
        }
        self.fill(rest, text, chosen)?;
        text.truncate(before);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn tags(template: &str, payload: &Value) -> Vec<String> {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-event"), HeaderValue::from_static("entry/publish"))]);
        Template::parse(template).unwrap().tags(&Delivery { headers: &headers, payload }, 100).unwrap()
    }

    #[test]
    fn a_template_is_filled_from_the_payload() {
        let payload = json!({
            "model": "dish", "entry": { "id": 7, "live": true, "name": "Crème brûlée", "none": null, "empty": "" },
            "items": [{ "type": "a", "id": 1 }, { "type": "b", "id": 2 }, { "type": "c" }],
            "a/b": { "~": "odd" },
        });
        let cases = [
            ("menu", &["menu"][..]),
            ("{/model}:{/entry/id}", &["dish:7"]),
            ("{/entry/live}", &["true"]),
            ("dish:{/entry/name}", &["dish:Cr%C3%A8me%20br%C3%BBl%C3%A9e"]),
            ("é {{x}}", &["%C3%A9%20{x}"]),
            ("{/items/*/id}", &["1", "2"]),
            ("{/items/*/type}:{/items/*/id}", &["a:1", "b:2"]),
            ("{/items/0/type}", &["a"]),
            ("{/a~1b/~0}", &["odd"]),
            ("{header.x-event}", &["entry/publish"]),
            ("{header.x-event}/x", &["entry%2Fpublish/x"]),
            ("{/entry/none}", &[]),
            ("{/entry/empty}", &[]),
            ("{/entry}", &[]),
            ("{/nothing/*/here}", &[]),
            ("{/model}-{/nothing}", &[]),
            ("{header.x-other}", &[]),
        ];
        for (template, expected) in cases {
            assert_eq!(tags(template, &payload), expected, "{template}");
        }
        assert_eq!(tags("{/*}", &json!([1, 2])), ["1", "2"]);
        assert_eq!(tags("{/*/*}", &json!([[1, 2], { "x": 3 }])), ["1", "2", "3"]);
    }

    #[test]
    fn what_multiplies_is_bounded() {
        let many: Vec<u32> = (0..2_000).collect();
        let payload = json!({ "a": many, "b": many });
        let headers = HeaderMap::new();
        let from = Delivery { headers: &headers, payload: &payload };
        assert_eq!(Template::parse("{/a/*}").unwrap().tags(&from, 100), Err(TooMany));
        assert_eq!(Template::parse("{/a/*}-{/b/*}").unwrap().tags(&from, usize::MAX), Err(TooMany));
        assert_eq!(Template::parse("{/a/*}-{/b/*}-{/none}").unwrap().tags(&from, usize::MAX), Err(TooMany));
        assert_eq!(Template::parse("{/a/*}").unwrap().texts(&from, 2_000).map(|texts| texts.len()), Ok(2_000));
    }

    #[test]
    fn a_template_that_makes_no_sense_is_refused() {
        for odd in ["", "{", "}", "{}", "{a}", "{/a}{/b}", "{header.}", "{header.a b}", "{/a", "x}"] {
            assert!(Template::parse(odd).is_err(), "{odd}");
        }
    }
}
