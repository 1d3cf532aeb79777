//! What every field of the rules language means: the one description from which the reference ([`markdown()`]) and the JSON
//! Schema ([`schema`]) are made.
//!
//! Nothing here can drift from what is checked: tests hold the fields against `crate::vocabulary`, load each example, hold
//! each default against the field left out, and ask the checker for the words and ranges that it takes
//! (tests/reference.rs).

mod fields;
mod markdown;
mod schema;

use crate::vocabulary::Words;

pub use markdown::markdown;
pub use schema::schema;

/// One kind of map: the file itself, `cache`, and so on.
pub(crate) struct Map {
    /// The way to it, such as `routes[].cache`; empty for the file.
    pub(crate) path: &'static str,
    /// What it is for, as Markdown.
    pub(crate) about: &'static str,
    /// The fields that the checker knows.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the fields against them"))]
    pub(crate) words: &'static Words,
    /// The fields that work, in the order in which they are told.
    pub(crate) fields: &'static [Field],
    /// Fields of which exactly one must be given.
    pub(crate) one_of: &'static [&'static str],
}

/// One field.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) shape: Shape,
    /// Whether it must be given.
    pub(crate) needed: bool,
    /// What counts if it isn't given: YAML that may as well be written.
    pub(crate) default: Option<&'static str>,
    /// What counts if it isn't given, where no YAML says that.
    pub(crate) otherwise: Option<&'static str>,
    /// What it means, as Markdown.
    pub(crate) about: &'static str,
    /// YAML: the field with a value, which fits into the file that reference/tests.rs begins with.
    pub(crate) example: &'static str,
}

/// What a field takes.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A whole number that must be this.
    Exactly(u64),
    /// Text: what it is, and what it looks like as a regular expression.
    Text(&'static str, &'static str),
    /// One of a few words.
    Word(&'static [&'static str]),
    /// `on` or `off`; `true` and `false` mean the same.
    OnOff,
    /// A duration, and the shortest and longest.
    Duration(&'static str, &'static str),
    /// A duration in whole seconds, from none to very long.
    Lifetime,
    /// The same, or the name of a bucket.
    Ttl,
    /// A size in bytes, and the smallest and largest.
    Size(&'static str, &'static str),
    /// A whole number, and the least and the most.
    Number(&'static str, &'static str),
    /// A map whose fields are told elsewhere.
    Fields,
    /// At least so many and at most so many items.
    List(&'static Shape, usize, usize),
    /// Fields of its own.
    Map(&'static Map),
    /// Any names that look like this, each with such a value.
    Named(&'static str, &'static str, &'static Shape),
    /// One of several.
    Any(&'static [Shape]),
}

/// The example of the field to which a way such as `routes[3].cache.query` leads.
pub(crate) fn example_at(path: &str) -> Option<&'static str> {
    let digits = |char: char| char.is_ascii_digit();
    let way: String = path.split('[').map(|part| part.trim_start_matches(digits)).collect::<Vec<_>>().join("[");
    let (parent, name) = way.rsplit_once('.').unwrap_or(("", &way));
    let map = fields::ROOT.all().into_iter().find(|map| map.path == parent)?;
    map.fields.iter().find(|field| field.name == name).map(|field| field.example)
}

impl Field {
    /// A field that may be left out.
    const fn new(name: &'static str, shape: Shape, about: &'static str, example: &'static str) -> Self {
        Self { name, shape, needed: false, default: None, otherwise: None, about, example }
    }

    const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }

    const fn default(self, value: &'static str) -> Self {
        Self { default: Some(value), ..self }
    }

    const fn otherwise(self, words: &'static str) -> Self {
        Self { otherwise: Some(words), ..self }
    }
}

impl Map {
    /// This map and all below it, each once, in the order of the reference.
    fn all(&'static self) -> Vec<&'static Self> {
        let mut maps = vec![self];
        for field in self.fields {
            for map in field.shape.maps() {
                for below in map.all() {
                    if !maps.iter().any(|known| known.path == below.path) {
                        maps.push(below);
                    }
                }
            }
        }
        maps
    }
}

impl Shape {
    /// The maps that it can hold.
    fn maps(self) -> Vec<&'static Map> {
        match self {
            Self::Map(map) => vec![map],
            Self::List(shape, ..) | Self::Named(_, _, shape) => shape.maps(),
            Self::Any(shapes) => shapes.iter().flat_map(|shape| shape.maps()).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
