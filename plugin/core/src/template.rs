//! Key and tag templates: literal text with `{placeholders}`.
//!
//! ```text
//! user:{user_id}:orders:{query.page|default(1)}
//! ```
//!
//! A placeholder names a capture of the rule's path or another [`Source`], and may format its value ([`Format`]). `{{` and
//! `}}` stand for single braces. A value is escaped so that it can't imitate the text around it: two different sets of values never fill one
//! template to the same text. For that, two placeholders must have text between them, and the first byte of that text is
//! escaped inside values (`a-b` in `{x}-{y}` becomes `a%2Db`).

use std::borrow::Cow;
use std::fmt;

use crate::digest::sha256;
use crate::order::sorted;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
    /// Bytes that end a value: the first of each literal that follows a placeholder.
    stops: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Written as it stands (already escaped where it holds a byte that no key may hold).
    Literal(String),
    Value(Placeholder),
}

/// A place that is filled with a value of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// Where the value comes from.
    pub source: Source,
    /// What is done to the value, in order.
    pub formats: Vec<Format>,
}

/// What is done to a value before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// `default(x)`: what stands for a missing or empty value.
    Default(String),
    /// `lower`: ASCII letters in lower case.
    Lower,
    /// `hash`: its SHA-256.
    Hash,
    /// `sort`: the members of a list that is separated by commas, in order.
    Sort,
    /// `trunc(n)`: its first `n` bytes.
    Trunc(usize),
    /// `int`: a whole number without needless zeros; anything else is a bypass.
    Int,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A `{name}` of the rule's path.
    Capture(String),
    /// A parameter of the query.
    Query(String),
    /// A header field, its name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The request's host, in lower case.
    Host,
    /// The request's method.
    Method,
    /// The digest of the request's body, with its type.
    Body,
    /// The client's address without its port, as the gateway knows it.
    Client,
    /// The name of the gateway's route.
    Route,
    /// The name of the cluster that the route leads to.
    Cluster,
    /// `namespace/name` in the metadata of the gateway's route.
    Metadata(String),
    /// A claim of a token that the gateway has verified.
    Claim(String),
    /// `{}`: one of the values that a tag's own source found.
    Item,
}

impl Source {
    /// Whether the gateway alone knows it, and no header says it.
    #[must_use]
    pub fn is_property(&self) -> bool {
        matches!(self, Self::Client | Self::Route | Self::Cluster | Self::Metadata(_) | Self::Claim(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture(name) => f.write_str(name),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Host => f.write_str("host"),
            Self::Method => f.write_str("method"),
            Self::Body => f.write_str("body"),
            Self::Client => f.write_str("client.address"),
            Self::Route => f.write_str("route.name"),
            Self::Cluster => f.write_str("cluster.name"),
            Self::Metadata(path) => write!(f, "metadata.{path}"),
            Self::Claim(name) => write!(f, "claim.{name}"),
            Self::Item => Ok(()),
        }
    }
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset in the template.
    pub at: usize,
    /// Bytes from there on that are meant; at least 1.
    pub len: usize,
    /// What it is.
    pub what: TemplateMistake,
}

/// The kinds of [`TemplateError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateMistake {
    /// Nothing between the quotes.
    Empty,
    /// A `{` without `}`.
    Unclosed,
    /// A `}` without `{`.
    Unopened,
    /// `{}`.
    NoName,
    /// Not a name, nor one of the sources above.
    BadName(String),
    /// Metadata without its namespace.
    NoNamespace(String),
    /// A field that says who the client is.
    Credential(String),
    /// `{}` where nothing is found one by one, or twice, or never where it must be.
    Item,
    /// Not a formatter, or one whose argument it can't use.
    UnknownFormatter(String),
    /// Two placeholders without text between them.
    Adjacent,
    /// Text after a placeholder that begins with something that values are escaped with or to.
    WeakSeparator,
}

impl fmt::Display for TemplateMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the template is empty"),
            Self::Unclosed => f.write_str("`{` is never closed"),
            Self::Unopened => f.write_str("`}` closes nothing"),
            Self::NoName => f.write_str("`{}` names nothing"),
            Self::BadName(name) => write!(f, "`{name}` can't be a placeholder"),
            Self::NoNamespace(name) => write!(f, "`{name}` doesn't say whose metadata it means"),
            Self::Credential(name) => write!(f, "`{name}` says who the client is, and would stand in the open"),
            Self::Item => f.write_str("`{}` must stand in it exactly once: there goes each value that is found"),
            Self::UnknownFormatter(name) => write!(f, "`{name}` is no formatter"),
            Self::Adjacent => f.write_str("two placeholders stand side by side, so their values could run together"),
            Self::WeakSeparator => {
                f.write_str("the text after a placeholder begins with `%`, a space or a non-ASCII letter, which its value could imitate")
            }
        }
    }
}

impl TemplateMistake {
    /// How to mend it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Empty => "write at least a word, such as `users`",
            Self::Unclosed => "close the placeholder, such as `{user_id}`, or write `{{` for a brace",
            Self::Unopened => "write `}}` for a brace",
            Self::NoName => "name a capture of the path, such as `{user_id}`",
            Self::BadName(_) => {
                "use a capture of the path, `query.…`, `header.…`, `cookie.…`, `claim.…`, `metadata.…`, `host`, `method`, `body`, `client.address`, `route.name` or `cluster.name`"
            }
            Self::NoNamespace(_) => "write namespace and name, such as `metadata.com.example/tenant`",
            Self::Credential(_) => "say `identity: { header: … }`, which makes it part of the key, hashed",
            Self::Item => "write it once, such as `order:{}`",
            Self::UnknownFormatter(_) => {
                "the formatters are `default(x)`, `lower`, `hash`, `sort`, `trunc(n)` and `int`"
            }
            Self::Adjacent => "put a separator between them, such as `:`",
            Self::WeakSeparator => "begin that text with a separator, such as `:`",
        }
    }
}

/// Values for the placeholders of one request. A value is bytes as they came; [`Template::fill`] escapes them.
pub trait Values {
    /// The value of a source.
    fn value(&self, source: &Source) -> Option<Cow<'_, [u8]>>;
}

/// A placeholder that can't be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// It has neither value nor default.
    Missing(Source),
    /// Its value isn't what a formatter takes.
    Bad(Source),
}

/// A template that is filled but for its `{}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    before: String,
    after: String,
    stops: Vec<u8>,
}

impl Around {
    /// The text with a value in its place; `None` without a value.
    #[must_use]
    pub fn text(&self, value: &[u8]) -> Option<String> {
        let mut text = self.before.clone();
        escape(value, &self.stops, &mut text);
        text.push_str(&self.after);
        (!value.is_empty()).then_some(text)
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// The first [`TemplateError`].
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        Self::parse_with(source, false)
    }

    /// Parses a template that is filled once for each value found, at `{}`.
    ///
    /// # Errors
    ///
    /// The first [`TemplateError`].
    pub fn parse_item(source: &str) -> Result<Self, TemplateError> {
        let template = Self::parse_with(source, true)?;
        let items = template.placeholders().filter(|placeholder| placeholder.source == Source::Item).count();
        let mistake = TemplateError { at: 0, len: source.len().max(1), what: TemplateMistake::Item };
        if items == 1 { Ok(template) } else { Err(mistake) }
    }

    fn parse_with(source: &str, item: bool) -> Result<Self, TemplateError> {
        if source.is_empty() {
            return Err(TemplateError { at: 0, len: 1, what: TemplateMistake::Empty });
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        // `%` begins every escape, so a literal that begins with one (or with what is escaped) wouldn't end a value.
        let weak = |after: &[Part], char: char| {
            matches!(after.last(), Some(Part::Value(_))) && (char == '%' || !char.is_ascii_graphic())
        };
        let mut chars = source.char_indices().peekable();
        while let Some((at, char)) = chars.next() {
            let doubled = chars.peek().is_some_and(|(_, next)| *next == char);
            match char {
                '{' | '}' if doubled => {
                    chars.next();
                    push_escaped(&mut literal, char);
                }
                '}' => return Err(TemplateError { at, len: 1, what: TemplateMistake::Unopened }),
                '{' => {
                    let Some((end, _)) = chars.find(|(_, char)| *char == '}') else {
                        return Err(TemplateError { at, len: 1, what: TemplateMistake::Unclosed });
                    };
                    let inside = source.get(at.saturating_add(1)..end).unwrap_or_default();
                    let len = inside.len().saturating_add(2);
                    let value = placeholder(inside, item).map_err(|what| TemplateError { at, len, what })?;
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    } else if matches!(parts.last(), Some(Part::Value(_))) {
                        return Err(TemplateError { at, len, what: TemplateMistake::Adjacent });
                    }
                    parts.push(Part::Value(value));
                }
                char if literal.is_empty() && weak(&parts, char) => {
                    return Err(TemplateError { at, len: char.len_utf8(), what: TemplateMistake::WeakSeparator });
                }
                char => push_escaped(&mut literal, char),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let stops = parts
            .windows(2)
            .filter_map(|pair| match pair {
                [Part::Value(_), Part::Literal(text)] => text.bytes().next(),
                _ => None,
            })
            .collect();
        Ok(Self { source: source.to_owned(), parts, stops })
    }

    /// The text that it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its placeholders, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Literal(_) => None,
        })
    }

    /// The text before its first placeholder: every text that it is ever filled to begins so.
    #[must_use]
    pub fn start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Appends the template with its values to `out`: printable ASCII without spaces.
    ///
    /// # Errors
    ///
    /// [`NoValue`] when a placeholder can't be filled; `out` then holds a part.
    pub fn fill(&self, values: &dyn Values, out: &mut String) -> Result<(), NoValue> {
        self.parts.iter().try_for_each(|part| self.fill_part(part, values, out))
    }

    /// Fills everything but the `{}` of a template that was read by [`Template::parse_item`].
    ///
    /// # Errors
    ///
    /// As for [`Template::fill`].
    pub fn around(&self, values: &dyn Values) -> Result<Around, NoValue> {
        let (mut before, mut after, mut passed) = (String::new(), String::new(), false);
        for part in &self.parts {
            match part {
                Part::Value(Placeholder { source: Source::Item, .. }) => passed = true,
                part => self.fill_part(part, values, if passed { &mut after } else { &mut before })?,
            }
        }
        Ok(Around { before, after, stops: self.stops.clone() })
    }

    fn fill_part(&self, part: &Part, values: &dyn Values, out: &mut String) -> Result<(), NoValue> {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Value(placeholder) => escape(&placeholder.value(values)?, &self.stops, out),
        }
        Ok(())
    }
}

impl Placeholder {
    fn value<'v>(&'v self, values: &'v dyn Values) -> Result<Cow<'v, [u8]>, NoValue> {
        let mut value = match values.value(&self.source) {
            // `?page=` is no page, and the pair stays in the key; an empty field or cookie is something else than none.
            Some(value) if value.is_empty() && !matches!(self.source, Source::Query(_)) => {
                return Err(NoValue::Bad(self.source.clone()));
            }
            value => value.filter(|value| !value.is_empty()),
        };
        for format in &self.formats {
            value = match (format, value) {
                (Format::Default(default), None) => Some(Cow::Borrowed(default.as_bytes())),
                (format, Some(value)) => Some(format.apply(value).ok_or_else(|| NoValue::Bad(self.source.clone()))?),
                (_, None) => None,
            };
        }
        value.ok_or_else(|| NoValue::Missing(self.source.clone()))
    }
}

impl Format {
    fn apply<'v>(&self, value: Cow<'v, [u8]>) -> Option<Cow<'v, [u8]>> {
        Some(match self {
            Self::Default(_) => value,
            Self::Lower => Cow::Owned(value.to_ascii_lowercase()),
            Self::Hash => Cow::Owned(sha256(&value).into_bytes()),
            Self::Sort => {
                let members = sorted(value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
                Cow::Owned(members.join(&b','))
            }
            Self::Trunc(most) => Cow::Owned(value.get(..*most).unwrap_or(&value).to_vec()),
            Self::Int => {
                let digits = value.strip_prefix(b"-").unwrap_or(&value);
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                let digits = digits.get(zeros..).filter(|digits| !digits.is_empty()).unwrap_or(b"0");
                let sign: &[u8] = if value.starts_with(b"-") && digits != b"0" { b"-" } else { b"" };
                Cow::Owned([sign, digits].concat())
            }
        })
    }
}

/// Fields that say who a client is: their values aren't written into keys and tags, which operators see.
const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

fn placeholder(inside: &str, item: bool) -> Result<Placeholder, TemplateMistake> {
    let mut pieces = inside.split('|');
    let name = pieces.next().unwrap_or_default().trim();
    let source = match name {
        "" if item => Source::Item,
        "" => return Err(TemplateMistake::NoName),
        "host" => Source::Host,
        "method" => Source::Method,
        "body" => Source::Body,
        "client.address" => Source::Client,
        "route.name" => Source::Route,
        "cluster.name" => Source::Cluster,
        _ => match name.split_once('.') {
            Some(("header", name)) if CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known)) => {
                return Err(TemplateMistake::Credential(format!("header.{name}")));
            }
            Some(("metadata", path))
                if !path.split_once('/').is_some_and(|(space, name)| !space.is_empty() && !name.is_empty()) =>
            {
                return Err(TemplateMistake::NoNamespace(name.to_owned()));
            }
            Some((kind, named)) if !named.is_empty() && named.bytes().all(|byte| byte.is_ascii_graphic()) => {
                let named = named.to_owned();
                match kind {
                    "query" => Source::Query(named),
                    "header" => Source::Header(named.to_ascii_lowercase()),
                    "cookie" => Source::Cookie(named),
                    "metadata" => Source::Metadata(named),
                    "claim" => Source::Claim(named),
                    _ => return Err(TemplateMistake::BadName(name.to_owned())),
                }
            }
            None if is_name(name) && !RESERVED.contains(&name) => Source::Capture(name.to_owned()),
            _ => return Err(TemplateMistake::BadName(name.to_owned())),
        },
    };
    let formats = pieces.map(|formatter| format(formatter.trim())).collect::<Result<_, _>>()?;
    Ok(Placeholder { source, formats })
}

/// What begins a source other than a capture.
pub const RESERVED: &[&str] =
    &["host", "method", "body", "route", "cluster", "client", "query", "header", "cookie", "claim", "metadata"];

fn format(text: &str) -> Result<Format, TemplateMistake> {
    let (name, argument) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')),
        None => (text, None),
    };
    let length = || argument?.parse().ok().filter(|length| *length > 0);
    Ok(match (name, argument) {
        ("default", Some(argument)) if !argument.is_empty() => Format::Default(argument.to_owned()),
        ("lower", None) => Format::Lower,
        ("hash", None) => Format::Hash,
        ("sort", None) => Format::Sort,
        ("int", None) => Format::Int,
        ("trunc", Some(_)) => match length() {
            Some(length) => Format::Trunc(length),
            None => return Err(TemplateMistake::UnknownFormatter(text.to_owned())),
        },
        _ => return Err(TemplateMistake::UnknownFormatter(text.to_owned())),
    })
}

/// Letters, digits and `_`, not beginning with a digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// Literal text keeps its separators; only what no key may hold (spaces, controls, non-ASCII) is escaped.
fn push_escaped(literal: &mut String, char: char) {
    if char.is_ascii_graphic() {
        literal.push(char);
    } else {
        char.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(literal, byte));
    }
}

/// Appends a value: whatever could be taken for the template's own text, for a component's end, or for an escape is
/// written as `%XX`.
pub(crate) fn escape(value: &[u8], stops: &[u8], out: &mut String) {
    for &byte in value {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'{' | b'}' | b'!') && !stops.contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_hex(out, byte);
        }
    }
}

fn push_hex(out: &mut String, byte: u8) {
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Given<'a>(&'a [(&'a str, &'a [u8])]);

    impl Values for Given<'_> {
        fn value(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
            let name = source.to_string();
            self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| Cow::Borrowed(*value))
        }
    }

    fn fill(template: &str, values: &[(&str, &[u8])]) -> Result<String, NoValue> {
        let mut out = String::new();
        Template::parse(template).unwrap().fill(&Given(values), &mut out).map(|()| out)
    }

    #[test]
    fn placeholders_are_filled_and_the_text_between_them_stays() {
        assert_eq!(
            fill("user:{user_id}:orders:{query.page|default(1)}", &[("user_id", b"7")]).unwrap(),
            "user:7:orders:1"
        );
        assert_eq!(fill("{{a}}", &[]).unwrap(), "{a}");
    }

    #[test]
    fn a_missing_or_empty_value_is_never_an_empty_string() {
        assert_eq!(fill("user:{user_id}", &[]), Err(NoValue::Missing(Source::Capture("user_id".into()))));
        assert_eq!(fill("user:{user_id}", &[("user_id", b"")]), Err(NoValue::Bad(Source::Capture("user_id".into()))));
        let query = || Source::Query("page".into());
        assert_eq!(fill("{query.page}", &[("query.page", b"")]), Err(NoValue::Missing(query())));
        // To some origin an empty field isn't the same as none.
        assert_eq!(fill("{header.x|default(1)}", &[("header.x", b"")]), Err(NoValue::Bad(Source::Header("x".into()))));
        assert_eq!(fill("{header.x|default(1)}", &[]).as_deref(), Ok("1"));
    }

    #[test]
    fn a_value_cannot_imitate_the_separator_after_it() {
        assert_eq!(fill("{a}:{b}", &[("a", b"1:2"), ("b", b"3")]).unwrap(), "1%3A2:3");
        assert_eq!(fill("{a}-{b}", &[("a", b"1"), ("b", b"2-3")]).unwrap(), "1-2%2D3");
        assert_eq!(fill("x:{a}", &[("a", b"!all 100%")]).unwrap(), "x:%21all%20100%25");
    }

    #[test]
    fn formatters_are_applied_in_their_order() {
        for (template, value, filled) in [
            ("{a|lower}", "AbÉ", "ab%C3%89"),
            ("{a|sort}", "b, a,c", "a,b,c"),
            ("{a|trunc(2)}", "abc", "ab"),
            ("{a|int}", "007", "7"),
            ("{a|int}", "-0", "0"),
            ("{a|int}", "-12", "-12"),
            ("{query.a|default(X)|lower}", "", "x"),
            ("{query.a|lower|default(X)}", "", "X"),
            ("{a|hash|trunc(8)}", "x", "2d711642"),
        ] {
            let given = [("a", value.as_bytes()), ("query.a", value.as_bytes())];
            assert_eq!(fill(template, &given).as_deref(), Ok(filled), "{template}");
        }
        for value in ["", "x", "1x", "-", "+1", "1.0"] {
            let filled = fill("{query.a|int|default(1)}", &[("query.a", value.as_bytes())]);
            // What isn't a number is no missing number: the origin may answer it in another way.
            let expected =
                if value.is_empty() { Ok("1".to_owned()) } else { Err(NoValue::Bad(Source::Query("a".into()))) };
            assert_eq!(filled, expected, "{value}");
        }
    }

    #[test]
    fn what_is_found_one_by_one_goes_where_the_braces_are_empty() {
        let template = Template::parse_item("order:{}:of:{a}").unwrap();
        let around = template.around(&Given(&[("a", b"7")])).unwrap();
        assert_eq!(around.text(b"1:2").as_deref(), Some("order:1%3A2:of:7"));
        assert_eq!(around.text(b""), None);
        assert_eq!(template.start(), "order:");
        for text in ["order", "{}:{}", "{a}"] {
            assert_eq!(Template::parse_item(text).unwrap_err().what, TemplateMistake::Item, "{text}");
        }
    }

    #[test]
    fn mistakes_say_where_they_are() {
        for (text, at, what) in [
            ("", 0, TemplateMistake::Empty),
            ("user:{id", 5, TemplateMistake::Unclosed),
            ("user:}", 5, TemplateMistake::Unopened),
            ("a{}", 1, TemplateMistake::NoName),
            ("a{b c}", 1, TemplateMistake::BadName("b c".into())),
            ("{a}{b}", 3, TemplateMistake::Adjacent),
            ("{a}%{b}", 3, TemplateMistake::WeakSeparator),
            ("{a} {b}", 3, TemplateMistake::WeakSeparator),
            ("{a}é{b}", 3, TemplateMistake::WeakSeparator),
            ("{header.}", 0, TemplateMistake::BadName("header.".into())),
            ("{shop.name}", 0, TemplateMistake::BadName("shop.name".into())),
            ("{route}", 0, TemplateMistake::BadName("route".into())),
            ("{metadata.tenant}", 0, TemplateMistake::NoNamespace("metadata.tenant".into())),
            ("{header.Authorization}", 0, TemplateMistake::Credential("header.Authorization".into())),
            ("{a|trunc(0)}", 0, TemplateMistake::UnknownFormatter("trunc(0)".into())),
            ("{a|default}", 0, TemplateMistake::UnknownFormatter("default".into())),
            ("{a|shout}", 0, TemplateMistake::UnknownFormatter("shout".into())),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!((error.at, error.what), (at, what), "{text}");
        }
    }

    /// Short texts over the bytes that escapes and separators are made of, so that near-collisions are common.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"% 25A:-!yz\xff3".to_vec()), 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// C7: whatever the values hold, different values never fill a template to one text.
        #[test]
        fn different_values_never_give_one_text(
            template in prop::sample::select(vec!["{a}:{b}", "{a}-{b}", "x{a}y{b}z", "{a}2{b}", "{a}!{b}", "{a}: 5{b}", "{a}A%{b}"]),
            one in (tricky(), tricky()),
            two in (tricky(), tricky()),
        ) {
            prop_assume!(one != two);
            let text = |(a, b): &(Vec<u8>, Vec<u8>)| fill(template, &[("a", a), ("b", b)]).unwrap();
            prop_assert_ne!(text(&one), text(&two));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Template::parse(&text);
        }
    }
}
