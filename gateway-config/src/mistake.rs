//! What can be wrong with rules, where it is, and how to mend it.

use std::borrow::Cow;
use std::fmt;

use routecache_core::path::PathMistake;
use routecache_core::template::TemplateMistake;

use crate::tree::{Span, visible};

/// Everything that is wrong with one set of rules; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistakes {
    /// In the order of the file where places are known, else in the order of the checks.
    pub list: Vec<Mistake>,
    /// The file, where there is one: places then are shown with the line they mean.
    #[cfg(feature = "files")]
    pub(crate) file: Option<crate::files::File>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// The way to it, such as `routes[1].cache.ttl`; empty for the whole.
    pub path: String,
    /// The rule that it belongs to, by name.
    pub rule: Option<String>,
    /// The place in the text, where that is known.
    pub span: Option<Span>,
    /// What it is.
    pub what: What,
}

/// The kinds of mistake. `said` quotes what was written, such as `ttl: 5 min`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the messages below say of them")]
pub enum What {
    /// Not JSON at all.
    NotJson(String),
    /// Not YAML at all.
    #[cfg(feature = "files")]
    NotYaml(String),
    /// YAML that can't be rules.
    #[cfg(feature = "files")]
    UnusableYaml {
        detail: &'static str,
        mend: &'static str,
    },
    /// No bytes at all.
    Nothing,
    /// A list where text belongs, and the like.
    WrongKind {
        said: String,
        is: &'static str,
        wanted: Wanted,
    },
    /// A name that the language doesn't have.
    UnknownField {
        field: String,
        similar: Option<&'static str>,
        below: Option<&'static str>,
        known: &'static [&'static str],
    },
    /// A name or value that the language has, but this version doesn't do yet.
    NotSupportedYet(String),
    /// A name that comes twice in one map.
    Twice(String),
    /// A field that must be there.
    Missing {
        field: &'static str,
        example: &'static str,
    },
    /// Another version of the language.
    UnknownVersion(String),
    /// Characters that a name can't have.
    BadWord {
        said: String,
        chars_max: usize,
    },
    /// A bucket whose name couldn't be told from a duration.
    BadBucketName(String),
    NotADuration {
        said: String,
    },
    NotWholeSeconds {
        said: String,
    },
    NotASize {
        said: String,
    },
    OutOfRange {
        said: String,
        low: &'static str,
        high: &'static str,
    },
    /// A `ttl` that is neither a bucket nor a duration.
    NoSuchBucket {
        said: String,
        similar: Option<String>,
        buckets: String,
    },
    /// A word that isn't one of a few.
    NotOneOf {
        said: String,
        similar: Option<&'static str>,
        words: Vec<&'static str>,
    },
    /// Not a final status that can be stored, nor a class of them.
    BadStatus(String),
    /// Not the name of a header field.
    BadFieldName(String),
    /// Heuristics where nothing of the origin's decides.
    HeuristicsUnheard,
    /// `lock: group` where there is no group.
    LockAlone,
    /// A body that would crowd everything else out of the gateway tier.
    BodyTooLarge {
        body: u64,
        l1: u64,
    },
    BadCluster {
        said: String,
    },
    /// Not the name of a variable of the environment.
    BadVariable,
    NoRoutes,
    /// Two rules of one name.
    NameTaken {
        name: String,
        first: String,
    },
    NoAction,
    TwoActions,
    BadMethod {
        method: String,
        similar: Option<&'static str>,
    },
    /// A method that a cache rule can't have.
    CacheMethod(String),
    /// A safe method in a purge rule.
    SafeMethod(String),
    /// A list without items where one must be.
    EmptyList(&'static str),
    TooMany {
        field: &'static str,
        max: usize,
    },
    TooLong {
        field: &'static str,
        bytes_max: usize,
    },
    /// A map without entries where one must be.
    EmptyMap(String),
    /// Not a JSON pointer.
    BadPointer(String),
    /// Not a share in percent.
    NotAPercentage(String),
    /// None or several of a few fields of which one must be given.
    NotExactlyOne(&'static [&'static str]),
    /// A field that means something only beside another.
    OnlyWith {
        field: &'static str,
        other: &'static str,
    },
    /// A rule for POST whose key leaves out what is posted.
    KeyWithoutBody(String),
    /// Something about a body in a rule whose requests have none.
    BodyOfGet(String),
    /// A cookie in the key of a rule that requests with cookies bypass.
    CookieRespected(String),
    /// `*.example.com` in the middle.
    WildcardHost(String),
    HostWithPort {
        host: String,
        mended: String,
    },
    BadHost(String),
    Path(PathMistake),
    Template {
        template: String,
        mistake: TemplateMistake,
    },
    /// A path that can't be its own key.
    PathAsKey(TemplateMistake),
    /// A rule to recache that isn't there, or caches nothing.
    NoSuchRoute {
        name: String,
        similar: Option<String>,
    },
    /// A capture that another rule's path doesn't have.
    NoCaptureOf {
        name: String,
        route: String,
        similar: Option<String>,
        captures: String,
    },
    /// A path to recache that would stay unfilled.
    CaptureNotGiven {
        name: String,
        route: String,
    },
    RecacheWithoutPurge,
    RecacheWithoutBackground,
    WarmWithoutBackground,
    /// A field that a listed read can't carry.
    NotInWarm(String),
    /// One that says who asks, where no rule tells apart who does.
    WarmCredential(String),
    BadFieldValue(String),
    OriginWithoutBackground,
    /// Fetches straight upstream without the word that nothing is rewritten on the way there.
    OriginRewrites,
    /// The same, for something that only the gateway knows of a request.
    OriginUnknown(String),
    /// A tag without `{}`, where the value would be.
    NoPlaceInTag(String),
    /// Not a URL that could be read.
    NotAUrl(String),
    NoSuchCapture {
        name: String,
        similar: Option<String>,
        captures: String,
    },
    CaptureLeftOut {
        name: String,
        key: String,
    },
    /// Something that a tag can't be made of.
    NotInTags(String),
    /// A key that can't be the tag as well.
    KeyAsTag(String),
    ReservedTag(String),
}

/// What belongs at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own explanation, in `Wanted::mend`")]
pub enum Wanted {
    Map,
    List,
    Text,
    TextOrList,
    Duration,
    Ttl,
    Size,
    Number,
    Version,
    Test,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Map => "a map",
            Self::List => "a list",
            Self::Text => "text",
            Self::TextOrList => "text or a list",
            Self::Duration => "a duration",
            Self::Ttl => "a bucket or a duration",
            Self::Size => "a size",
            Self::Number => "a whole number",
            Self::Version => "the number 1",
            Self::Test => "something that a value can be compared with",
        }
    }

    fn mend(self) -> &'static str {
        match self {
            Self::Map => "write fields below it, or `{}` for the defaults",
            Self::List => "write `[first, second]`, even around a single item",
            Self::Text => "write text; put it in quotes if it looks like something else",
            Self::TextOrList => "write a template, such as `\"user:{user_id}\"`, or a list of them",
            Self::Duration => "write the number and its unit together, such as `50ms`, `5m` or `1h`",
            Self::Ttl => "write a bucket, such as `short`, or a duration, such as `5m`",
            Self::Size => "write the number and its unit together, such as `64KiB` or `8MiB`",
            Self::Number => "write digits alone, such as `16`",
            Self::Version => "write `version: 1`",
            Self::Test => {
                "write a text in which `*` stands for anything, a list of them, or `on` or `off` for there or not"
            }
        }
    }
}

impl Mistake {
    pub(crate) fn new(path: impl Into<String>, span: Option<Span>, what: What) -> Self {
        Self { path: path.into(), rule: None, span, what }
    }

    /// How to mend it, in one line.
    #[must_use]
    pub fn mend(&self) -> String {
        #[cfg(feature = "files")]
        if let (What::WrongKind { .. }, Some(example)) = (&self.what, crate::reference::example_at(&self.path)) {
            return format!("write it like `{example}`");
        }
        visible(&self.what.mend())
    }
}

impl Mistakes {
    pub(crate) fn new(list: Vec<Mistake>) -> Self {
        Self {
            list,
            #[cfg(feature = "files")]
            file: None,
        }
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self::new(vec![mistake])
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    /// Each mistake with its place and mend, and at last their number; with `{:#}` in colours for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            #[cfg(feature = "files")]
            if let Some(file) = &self.file {
                let place =
                    crate::files::Place { span: mistake.span, path: &mistake.path, quotes: true, is_warning: false };
                file.show(&place, &mistake.to_string(), &mistake.mend(), f)?;
                continue;
            }
            match mistake.span {
                Some(span) => write!(f, "rules:{}:{}: ", span.line, span.column)?,
                None if mistake.path.is_empty() => f.write_str("rules: ")?,
                None => write!(f, "{}: ", visible(&mistake.path))?,
            }
            writeln!(f, "{mistake}")?;
            writeln!(f, "    {}", mistake.mend())?;
        }
        let count = self.list.len();
        write!(f, "{count} mistake{}", if count == 1 { "" } else { "s" })?;
        #[cfg(feature = "files")]
        if let Some(file) = &self.file {
            write!(f, " in {}", file.name)?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    /// The rule and what is wrong, in one line, without place and mend.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            write!(f, "rule `{}`: ", visible(rule))?;
        }
        f.write_str(&visible(&self.what.to_string()))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(detail) => write!(f, "this is not JSON: {detail}"),
            #[cfg(feature = "files")]
            Self::NotYaml(detail) => write!(f, "this is not YAML: {detail}"),
            #[cfg(feature = "files")]
            Self::UnusableYaml { detail, .. } => f.write_str(detail),
            Self::Nothing => f.write_str("there are no rules"),
            Self::WrongKind { said, is, wanted } => write!(f, "`{said}` is {is}, not {}", wanted.name()),
            Self::UnknownField { field, .. } => write!(f, "`{field}` is unknown"),
            Self::NotSupportedYet(what) => write!(f, "`{what}` is not supported yet"),
            Self::Twice(name) => write!(f, "`{name}` is given twice"),
            Self::Missing { field, .. } => write!(f, "`{field}` is missing"),
            Self::UnknownVersion(said) => write!(f, "`{said}` is unknown"),
            Self::BadWord { said, .. } => write!(f, "`{said}` can't be a name"),
            Self::BadBucketName(name) => write!(f, "`{name}` can't be the name of a bucket"),
            Self::NotADuration { said } => write!(f, "`{said}` is not a duration"),
            Self::NotWholeSeconds { said } => write!(f, "`{said}` is not a whole number of seconds"),
            Self::NotASize { said } => write!(f, "`{said}` is not a size"),
            Self::OutOfRange { said, .. } => write!(f, "`{said}` is out of range"),
            Self::NoSuchBucket { said, .. } => write!(f, "`{said}` is neither a bucket nor a duration"),
            Self::NotOneOf { said, .. } => write!(f, "`{said}` is not one of the words that are known here"),
            Self::BadStatus(status) => write!(f, "`{status}` is not a status that can be stored"),
            Self::BadFieldName(said) => write!(f, "`{said}` can't be the name of a header field"),
            Self::LockAlone => f.write_str("`lock: group` reaches other gateways through a bridge, and there is none"),
            Self::HeuristicsUnheard => {
                f.write_str("`heuristics` are guesses from what the origin says, and this rule doesn't let it decide")
            }
            Self::BodyTooLarge { body, l1 } => {
                write!(f, "a body of {body} bytes is more than a quarter of the {l1} bytes of the gateway tier")
            }
            Self::BadCluster { said } => write!(f, "`{said}` can't be the name of a cluster"),
            Self::BadVariable => f.write_str("this can't be the name of a variable of the environment"),
            Self::NoRoutes => f.write_str("`routes` is empty, so nothing would ever be cached"),
            Self::NameTaken { name, first } => write!(f, "`{name}` is already the name of `{first}`"),
            Self::NoAction => f.write_str("the rule neither caches nor purges"),
            Self::TwoActions => f.write_str("the rule has both `cache` and `purge`"),
            Self::BadMethod { method, .. } => write!(f, "`{method}` is not an HTTP method that we know"),
            Self::CacheMethod(method) => write!(f, "`{method}` can't be a method of a cache rule"),
            Self::SafeMethod(method) => write!(f, "`{method}` changes nothing, so it can't purge"),
            Self::EmptyList(field) => write!(f, "`{field}` is empty"),
            Self::TooMany { field, max } => write!(f, "`{field}` has more than {max} items"),
            Self::TooLong { field, bytes_max } => write!(f, "`{field}` is longer than {bytes_max} bytes"),
            Self::EmptyMap(said) => write!(f, "`{said}` names nothing"),
            Self::BadPointer(said) => write!(f, "`{said}` is not a JSON pointer"),
            Self::NotAPercentage(said) => write!(f, "`{said}` is not a share in percent"),
            Self::NotExactlyOne(fields) => write!(f, "exactly one of {} belongs here", listed(fields)),
            Self::OnlyWith { field, other } => write!(f, "`{field}` means nothing without `{other}`"),
            Self::KeyWithoutBody(key) => {
                write!(
                    f,
                    "the key `{key}` leaves out `{{body}}`, so everything that is posted would share one response"
                )
            }
            Self::BodyOfGet(said) => write!(f, "`{said}` is about a body, and the rule's requests have none"),
            Self::CookieRespected(name) => {
                write!(f, "`{{{name}}}` is in the key, but every request with a cookie bypasses the rule")
            }
            Self::WildcardHost(host) => write!(f, "`{host}`: only the first part of a host can be a wildcard"),
            Self::HostWithPort { host, .. } => write!(f, "`{host}` names a port"),
            Self::BadHost(host) => write!(f, "`{host}` is not a host name"),
            Self::Path(mistake) => mistake.fmt(f),
            Self::Template { template, mistake } => write!(f, "`{template}`: {mistake}"),
            Self::PathAsKey(mistake) => write!(f, "without `key` the path is the key, and it can't be: {mistake}"),
            Self::NoSuchRoute { name, .. } => write!(f, "`{name}` is no rule that caches"),
            Self::NoCaptureOf { name, route, .. } => {
                write!(f, "`{name}` is neither a capture of `{route}`'s path nor a query parameter")
            }
            Self::CaptureNotGiven { name, route } => {
                write!(f, "the path of `{route}` needs `{{{name}}}`, and nothing gives it")
            }
            Self::RecacheWithoutPurge => {
                f.write_str("`recache` reads again what the rule purges, and it purges nothing")
            }
            Self::RecacheWithoutBackground => f.write_str("nothing can be read again with `background: off`"),
            Self::WarmWithoutBackground => f.write_str("nothing can be warmed with `background: off`"),
            Self::NotInWarm(name) => write!(f, "`{name}` belongs to a message and its way, not to a listed read"),
            Self::WarmCredential(name) => {
                write!(f, "`{name}` says who asks, and what comes would be stored for others too")
            }
            Self::BadFieldValue(said) => write!(f, "`{said}` can't be the value of a header field"),
            Self::OriginWithoutBackground => f.write_str("nothing is fetched from an `origin` with `background: off`"),
            Self::OriginRewrites => f.write_str(
                "`origin` leads past the route; if that rewrites path, host or headers, what comes is another resource's",
            ),
            Self::OriginUnknown(name) => {
                write!(f, "`{name}` is known of requests that come to the gateway, and `origin` leads past it")
            }
            Self::NoPlaceInTag(text) => write!(f, "`{text}` doesn't say once where the value is in the tag"),
            Self::NotAUrl(text) => write!(f, "`{text}` is not a URL with a path"),
            Self::NoSuchCapture { name, .. } => write!(f, "`{{{name}}}` is not a capture of the rule's path"),
            Self::CaptureLeftOut { name, key } => {
                write!(f, "the key `{key}` leaves out `{{{name}}}`, so different paths would share one response")
            }
            Self::NotInTags(name) => write!(f, "`{{{name}}}` can't be part of a tag"),
            Self::KeyAsTag(name) => {
                write!(f, "without `tags` the key is the tag, and `{{{name}}}` can't be part of a tag")
            }
            Self::ReservedTag(tag) => write!(f, "`{tag}` begins with `!`, which is kept for tags that every entry has"),
        }
    }
}

impl What {
    /// A name for programs: the kind's own, such as `not-a-duration`.
    #[cfg(feature = "files")]
    #[must_use]
    pub fn code(&self) -> String {
        let name = format!("{self:?}");
        let name = name.split(|char: char| !char.is_ascii_alphanumeric()).next().unwrap_or_default();
        let mut code = String::new();
        for char in name.chars() {
            if char.is_ascii_uppercase() && !code.is_empty() {
                code.push('-');
            }
            code.push(char.to_ascii_lowercase());
        }
        code
    }

    /// How to mend it.
    #[must_use]
    pub fn mend(&self) -> Cow<'static, str> {
        const WRITE_A_DURATION: &str = "write the number and its unit together, such as `5m` or `300s`";
        Cow::Borrowed(match self {
            Self::NotJson(_) => "give the rules as one JSON object, such as what `routecache render` writes",
            #[cfg(feature = "files")]
            Self::NotYaml(_) => {
                "check indentation and quotes: inside `{ }` and `[ ]` templates need quotes, such as `\"/users/{user_id}\"`"
            }
            #[cfg(feature = "files")]
            Self::UnusableYaml { mend, .. } => mend,
            Self::Nothing => "write at least one rule below `routes`",
            Self::WrongKind { wanted, .. } => wanted.mend(),
            Self::UnknownField { similar: Some(similar), .. } => return format!("did you mean `{similar}`?").into(),
            Self::UnknownField { below: Some(below), .. } => {
                let quote = if below.contains('`') { "" } else { "`" };
                return format!("it belongs below {quote}{below}{quote}").into();
            }
            Self::UnknownField { known: [], .. } => "leave it out",
            Self::UnknownField { known, .. } => return format!("the fields here are {}", listed(known)).into(),
            Self::NotSupportedYet(_) => "leave it out for now",
            Self::Twice(_) => "keep one of them",
            Self::Missing { example, .. } => return format!("add it, such as `{example}`").into(),
            Self::UnknownVersion(_) => "write `version: 1`, or use a newer routecache",
            Self::BadWord { chars_max, .. } => {
                return format!("use letters, digits, `.`, `_` and `-`, at least one and at most {chars_max}").into();
            }
            Self::BadBucketName(_) => "begin with a letter; then letters, digits, `_` and `-`, at most 64",
            Self::NotADuration { .. } => WRITE_A_DURATION,
            Self::NotWholeSeconds { .. } => "lifetimes are counted in whole seconds, such as `1s`",
            Self::NotASize { .. } => "write the number and its unit together, such as `64KiB` or `8MiB`",
            Self::OutOfRange { low, high, .. } => return format!("use at least {low} and at most {high}").into(),
            Self::NoSuchBucket { similar: Some(similar), .. } => return format!("did you mean `{similar}`?").into(),
            Self::NoSuchBucket { buckets, .. } => {
                return format!("write a duration, such as `5m`, or one of the buckets {buckets}").into();
            }
            Self::NotOneOf { similar: Some(similar), .. } => return format!("did you mean `{similar}`?").into(),
            Self::NotOneOf { words, .. } => return format!("write one of {}", listed(words)).into(),
            Self::BadStatus(_) => "write a final status, such as `404`, or a class of them: `2xx`, `3xx`, `4xx`, `5xx`",
            Self::BadFieldName(_) => "write a name such as `accept-language`, without the colon",
            Self::LockAlone => "leave it out, write `lock: gateway`, or add `bridge: { cluster: … }`",
            Self::HeuristicsUnheard => "leave it out, or write `origin_cache_control: respect`",
            Self::BodyTooLarge { .. } => "lower `body_bytes_max`, or raise `l1_bytes` to four times as much",
            Self::BadCluster { .. } => "write the name that the gateway gives the cluster, without spaces",
            Self::BadVariable => "write a name such as `ROUTECACHE_TOKEN`; the token itself stays in the environment",
            Self::NoRoutes => "add a rule, such as `{ name: user, match: { path: \"/users/{user_id}\" }, cache: {} }`",
            Self::NameTaken { .. } => "give each rule a name of its own",
            Self::NoAction => "add `cache: {}` for reads, or `purge: { tags: [\"…\"] }` for writes",
            Self::TwoActions => "make it two rules: one for reads, one for writes",
            Self::BadMethod { similar: Some(similar), .. } => return format!("did you mean `{similar}`?").into(),
            Self::BadMethod { .. } => "write it in capitals, as in the request: `POST`, `PUT`, `PATCH`, `DELETE`, …",
            Self::CacheMethod(_) => "cache `GET` and `HEAD`, or `POST` with `{body}` in the key",
            Self::SafeMethod(_) => "name the methods of writes, such as `[POST, PUT, PATCH, DELETE]`",
            Self::EmptyList(_) => "name at least one, or leave the field out for its default",
            Self::TooMany { .. } => "leave some out, or make it several rules",
            Self::TooLong { .. } => "shorten it",
            Self::EmptyMap(_) => "name at least one, such as `{ x-tenant: acme }`, or leave the field out",
            Self::BadPointer(_) => {
                "begin with `/` and go down by names, such as `/items/*/id`; `*` stands for every member"
            }
            Self::NotAPercentage(_) => "write a whole number from 0 to 90 with its sign, such as `10%`",
            Self::NotExactlyOne(_) => "write one of them, and not the others",
            Self::OnlyWith { other, .. } => return format!("add `{other}`, or leave it out").into(),
            Self::KeyWithoutBody(_) => "add `{body}`, the digest of what is posted",
            Self::BodyOfGet(_) => "leave it out, or write `methods: [POST]` if the rule is for reads by POST",
            Self::CookieRespected(_) => {
                "write `cookies: ignore` if other cookies don't matter, or `identity: { cookie: … }`"
            }
            Self::WildcardHost(_) => "write `*.example.com` for every host below, or a rule for each host",
            Self::HostWithPort { mended, .. } => {
                return format!("write `{mended}`: a rule holds for every port").into();
            }
            Self::BadHost(_) => "write a name such as `api.example.com`",
            Self::Path(mistake) => mistake.mend(),
            Self::Template { mistake, .. } => mistake.mend(),
            Self::PathAsKey(_) => "write a `key`, such as `\"user:{user_id}\"`",
            Self::NoSuchRoute { similar: Some(similar), .. } => return format!("did you mean `{similar}`?").into(),
            Self::NoSuchRoute { .. } => "write the `name` of a rule with `cache`",
            Self::NoCaptureOf { similar: Some(similar), .. } => return format!("did you mean `{similar}`?").into(),
            Self::NoCaptureOf { captures, .. } if captures.is_empty() => {
                "its path captures nothing; a query parameter is written as `query.page`"
            }
            Self::NoCaptureOf { captures, .. } => {
                return format!("its path captures {captures}; a query parameter is written as `query.page`").into();
            }
            Self::CaptureNotGiven { name, .. } => {
                return format!("add it to `include`, `rename`, `set` or `each`, such as `include: [{name}]`").into();
            }
            Self::RecacheWithoutPurge => "add `purge`, or put `recache` into the rule that has it",
            Self::RecacheWithoutBackground => "leave `background: off` out, or `recache`",
            Self::WarmWithoutBackground => "leave `background: off` out, or `warm`",
            Self::NotInWarm(_) => "leave it out; what selects a response belongs here, such as `accept-language`",
            Self::WarmCredential(_) => "leave it out, or give the rule that answers an `identity` that is made of it",
            Self::BadFieldValue(_) => "write at most 1024 visible ASCII characters, with spaces only between them",
            Self::OriginWithoutBackground => "leave `background: off` out, or `origin`",
            Self::OriginRewrites => {
                "write `rewrites: none` if it rewrites nothing, or leave `origin` out: fetches then take the way of any request"
            }
            Self::OriginUnknown(_) => "leave `origin` out: fetches then take the way of any request",
            Self::NoPlaceInTag(_) => "write `{}` there, such as `user:{}`",
            Self::NotAUrl(_) => "write it as clients ask for it, such as `https://shop.example/menus/1?size=2`",
            Self::NoSuchCapture { similar: Some(similar), .. } => {
                return format!("did you mean `{{{similar}}}`?").into();
            }
            Self::NoSuchCapture { captures, .. } if captures.is_empty() => {
                "the path has no captures; use `query.<name>` or `host`"
            }
            Self::NoSuchCapture { captures, .. } => return format!("the path captures {captures}").into(),
            Self::CaptureLeftOut { name, .. } => return format!("add `{{{name}}}` to the key").into(),
            Self::NotInTags(_) => {
                "use what a later write can name too, such as captures, `query.…`, `header.…` and `host`"
            }
            Self::KeyAsTag(_) => "write `tags`",
            Self::ReservedTag(_) => "begin with something else",
        })
    }
}

/// Names in quotes, with commas.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    quoted.join(", ")
}
