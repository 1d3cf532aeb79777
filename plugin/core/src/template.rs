//! Key and tag templates: literal text with `{placeholders}`.
//!
//! ```text
//! user:{user_id}:orders:{query.page|default(1)}
//! ```
//!
//! A placeholder names a capture of the rule's path, `query.<name>`, `host` or `method`. `{{` and `}}` stand for single
//! braces. A value is escaped so that it can't imitate the text around it: two different sets of values never fill one
//! template to the same text. For that, two placeholders must have text between them, and the first byte of that text is
//! escaped inside values (`a-b` in `{x}-{y}` becomes `a%2Db`).

use std::fmt;

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
    /// What stands for a missing or empty value.
    pub default: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A `{name}` of the rule's path.
    Capture(String),
    /// A parameter of the query.
    Query(String),
    /// The request's host, in lower case.
    Host,
    /// The request's method.
    Method,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture(name) => f.write_str(name),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Host => f.write_str("host"),
            Self::Method => f.write_str("method"),
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
    /// Known to the language, but not built yet: a source or a formatter.
    NotSupportedYet(String),
    /// Not a formatter.
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
            Self::NotSupportedYet(what) => write!(f, "`{what}` is not supported yet"),
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
            Self::BadName(_) => "use a capture of the path, `query.<name>`, `host` or `method`",
            Self::NotSupportedYet(_) => "use captures, `query.<name>`, `host`, `method` and `default(x)`",
            Self::UnknownFormatter(_) => "the formatter is `default(x)`",
            Self::Adjacent => "put a separator between them, such as `:`",
            Self::WeakSeparator => "begin that text with a separator, such as `:`",
        }
    }
}

/// Values for the placeholders of one request. A value is bytes as they came; [`Template::fill`] escapes them.
pub trait Values {
    /// The value of a source; `None` or an empty one counts as missing.
    fn value(&self, source: &Source) -> Option<std::borrow::Cow<'_, [u8]>>;
}

/// A placeholder had no value, and no default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Source);

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// The first [`TemplateError`].
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
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
                    let mut inside = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            Some((_, char)) => inside.push(char),
                            None => return Err(TemplateError { at, len: 1, what: TemplateMistake::Unclosed }),
                        }
                    }
                    let len = inside.len().saturating_add(2);
                    let value = placeholder(&inside).map_err(|what| TemplateError { at, len, what })?;
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

    /// Appends the template with its values to `out`: printable ASCII without spaces.
    ///
    /// # Errors
    ///
    /// [`Missing`] when a placeholder has neither value nor default; `out` then holds a part.
    pub fn fill(&self, values: &impl Values, out: &mut String) -> Result<(), Missing> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(Placeholder { source, default }) => match values.value(source) {
                    Some(value) if !value.is_empty() => escape(&value, &self.stops, out),
                    _ => match default {
                        Some(default) => escape(default.as_bytes(), &self.stops, out),
                        None => return Err(Missing(source.clone())),
                    },
                },
            }
        }
        Ok(())
    }
}

fn placeholder(inside: &str) -> Result<Placeholder, TemplateMistake> {
    let mut pieces = inside.split('|');
    let name = pieces.next().unwrap_or_default().trim();
    let source = match name {
        "" => return Err(TemplateMistake::NoName),
        "host" => Source::Host,
        "method" => Source::Method,
        "body" | "route" | "cluster" | "client" => return Err(TemplateMistake::NotSupportedYet(name.to_owned())),
        _ => match name.split_once('.') {
            Some(("query", name)) if !name.is_empty() => Source::Query(name.to_owned()),
            Some(("header" | "cookie" | "metadata" | "claim", _)) => {
                return Err(TemplateMistake::NotSupportedYet(name.to_owned()));
            }
            Some(_) => return Err(TemplateMistake::BadName(name.to_owned())),
            None if is_name(name) => Source::Capture(name.to_owned()),
            None => return Err(TemplateMistake::BadName(name.to_owned())),
        },
    };
    let mut default = None;
    for formatter in pieces {
        let formatter = formatter.trim();
        let (name, argument) = match formatter.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')),
            None => (formatter, None),
        };
        match (name, argument) {
            ("default", Some(argument)) if !argument.is_empty() => default = Some(argument.to_owned()),
            ("lower" | "hash" | "sort" | "trunc" | "int", _) => {
                return Err(TemplateMistake::NotSupportedYet(formatter.to_owned()));
            }
            _ => return Err(TemplateMistake::UnknownFormatter(formatter.to_owned())),
        }
    }
    Ok(Placeholder { source, default })
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
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    struct Given<'a>(&'a [(&'a str, &'a [u8])]);

    impl Values for Given<'_> {
        fn value(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
            let name = source.to_string();
            self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| Cow::Borrowed(*value))
        }
    }

    fn fill(template: &str, values: &[(&str, &[u8])]) -> Result<String, Missing> {
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
        assert_eq!(fill("user:{user_id}", &[]), Err(Missing(Source::Capture("user_id".into()))));
        assert_eq!(fill("user:{user_id}", &[("user_id", b"")]), Err(Missing(Source::Capture("user_id".into()))));
    }

    #[test]
    fn a_value_cannot_imitate_the_separator_after_it() {
        assert_eq!(fill("{a}:{b}", &[("a", b"1:2"), ("b", b"3")]).unwrap(), "1%3A2:3");
        assert_eq!(fill("{a}-{b}", &[("a", b"1"), ("b", b"2-3")]).unwrap(), "1-2%2D3");
        assert_eq!(fill("x:{a}", &[("a", b"!all 100%")]).unwrap(), "x:%21all%20100%25");
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
            ("{header.accept}", 0, TemplateMistake::NotSupportedYet("header.accept".into())),
            ("{a|lower}", 0, TemplateMistake::NotSupportedYet("lower".into())),
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
