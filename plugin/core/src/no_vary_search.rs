//! Responses that say which parameters of the query don't matter (`No-Vary-Search`, draft-ietf-httpbis-no-vary-search), and
//! so answer several URLs of one path.
//!
//! Such a response is stored under a key without those parameters, with what it said behind it ([`Search::key`]): only a
//! response that says the same can stand there. Under the key of the path ([`Search::base`]) stands what responses have
//! said ([`Variances`]), so that a request finds where to look. The order of parameters never counts in our keys, whatever
//! `key-order` says.

use crate::entry::Entry;
use crate::fields::Fields;
use crate::key::{CacheKey, form_name};
use crate::order::sorted_set;
use crate::structured::{Member, dictionary};
use crate::template::escape;
use crate::wire::{Reader, put_len, put_text};

/// What responses of one path may say at once; of more, the oldest is forgotten.
pub const VARIANCES_MAX: usize = 4;

/// Longest of those, in bytes; a longer one is as if it weren't there.
const TEXT_BYTES_MAX: usize = 1024;

/// Which parameters don't matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variance {
    /// Sorted, and decoded.
    names: Vec<String>,
    /// Whether those with the names are the only ones that do matter.
    inverted: bool,
}

impl Variance {
    /// What a response says; `None` where all parameters matter. So they do where anything in the field isn't as the draft
    /// has it, or not known: that asks too often, and never answers with another URL's response.
    #[must_use]
    pub fn of(response: &Fields<'_>) -> Option<Self> {
        let value = response.joined("no-vary-search")?;
        let (mut params, mut except) = (Member::Flag(false), None);
        for (key, member) in dictionary(&value)? {
            match (key, member) {
                ("key-order", Member::Flag(_)) => {}
                ("params", member @ (Member::Flag(_) | Member::Strings(_))) => params = member,
                ("except", Member::Strings(names)) => except = Some(names),
                _ => return None,
            }
        }
        let (names, inverted) = match (params, except) {
            (Member::Flag(true), except) => (except.unwrap_or_default(), true),
            (Member::Strings(names), None) if !names.is_empty() => (names, false),
            _ => return None,
        };
        let names = sorted_set(names.iter().map(|name| form_name(name)));
        Some(Self { names, inverted }).filter(|variance| variance.text().len() <= TEXT_BYTES_MAX)
    }

    fn ignores(&self, name: &String) -> bool {
        self.names.contains(name) != self.inverted
    }

    /// In one spelling, which ends each name.
    fn text(&self) -> String {
        let mut text = String::from(if self.inverted { "+" } else { "-" });
        for name in &self.names {
            escape(name.as_bytes(), b"&", &mut text);
            text.push('&');
        }
        text
    }

    fn read(text: &str) -> Option<Self> {
        let (inverted, names) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(names), _) => (true, names),
            (_, names) => (false, names?),
        };
        Some(Self { names: names.split_terminator('&').map(form_name_of_text).collect(), inverted })
    }
}

/// A name as [`Variance::text`] wrote it. It has no `+` that means a space, as that is escaped.
fn form_name_of_text(text: &str) -> String {
    form_name(&text.replace('+', "%2B"))
}

/// What the keys of a request are made of, if some of its parameters may not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The key before its pairs.
    pub before: String,
    /// Each pair as it stands in the key, behind its name; without one, it always matters.
    pub pairs: Vec<(Option<String>, String)>,
    /// The key behind its pairs.
    pub after: String,
}

impl Search {
    /// Where [`Variances`] stand. No other key of a rule goes on with ` =`.
    #[must_use]
    pub fn base(&self) -> Option<CacheKey> {
        CacheKey::of([&*self.before, &self.after, " ="].concat())
    }

    /// The request's own key.
    #[must_use]
    pub fn exact(&self) -> Option<CacheKey> {
        CacheKey::of([&self.before, &*self.pairs(|_| true), &self.after].concat())
    }

    /// Where a response stands that says this.
    #[must_use]
    pub fn key(&self, variance: &Variance) -> Option<CacheKey> {
        let pairs = self.pairs(|name| !name.as_ref().is_some_and(|name| variance.ignores(name)));
        CacheKey::of([&*self.before, &pairs, &self.after, " =", &variance.text()].concat())
    }

    fn pairs(&self, matters: impl Fn(&Option<String>) -> bool) -> String {
        let pairs = self.pairs.iter().filter(|(name, _)| matters(name));
        pairs.map(|(_, pair)| &**pair).collect::<Vec<_>>().join("&")
    }
}

/// What the responses of one path have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variances(Vec<Variance>);

impl Variances {
    /// What an entry tells of them.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        if entry.status() != 0 {
            return None;
        }
        let mut reader = Reader::new(entry.body());
        let said = (0..reader.len()?).map(|_| Variance::read(std::str::from_utf8(reader.text()?).ok()?));
        said.collect::<Option<_>>().map(Self)
    }

    /// These and another one, which is the last to be forgotten.
    #[must_use]
    pub fn with(mut self, variance: Variance) -> Self {
        self.0.retain(|known| *known != variance);
        self.0.push(variance);
        if self.0.len() > VARIANCES_MAX {
            self.0.remove(0);
        }
        self
    }

    /// These and those that the group knows of.
    #[must_use]
    pub fn merged(self, group: Self) -> Self {
        self.0.into_iter().fold(group, Self::with)
    }

    /// Where responses stand that may answer a request.
    pub fn keys(&self, search: &Search) -> impl Iterator<Item = CacheKey> {
        self.0.iter().filter_map(|variance| search.key(variance))
    }

    /// As an entry's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = put_len(&mut out, self.0.len())
            .and_then(|()| self.0.iter().try_for_each(|variance| put_text(&mut out, variance.text().as_bytes())));
        written.map_or_else(Vec::new, |()| out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::PathTemplate;
    use crate::policy::{
        Action, CacheRule, DeltaSeconds, Limits, Mode, Namespace, NoVarySearch, Policy, QuerySelection, Rule,
    };
    use crate::request::{Arrived, Engine, Plan};
    use crate::template::Template;

    fn variance(value: &str) -> Option<Variance> {
        Variance::of(&Fields::from_pairs(vec![(b"no-vary-search", value.as_bytes())]))
    }

    fn engine(key: &str, tag: &str) -> Engine {
        let mut cache = CacheRule::new(Template::parse(key).unwrap(), DeltaSeconds::saturating(60));
        cache.query = QuerySelection::All;
        cache.tags = vec![Template::parse(tag).unwrap()];
        cache.terms.no_vary_search = NoVarySearch::Respect;
        Engine::new(Policy {
            namespace: Namespace { prefix: "svc".into(), version: "v1".into() },
            bridge: None,
            serves_unheard: false,
            background: None,
            warm: Default::default(),
            limits: Limits::default(),
            window_ms: 1000,
            purge_timeout_ms: 250,
            purge_heard: false,
            rules: vec![Rule {
                name: "r".into(),
                methods: vec!["GET".into()],
                host: None,
                path: PathTemplate::parse("/{path}").unwrap(),
                conditions: Vec::new(),
                mode: Mode::On,
                action: Action::Cache(Box::new(cache)),
            }],
        })
    }

    fn search(engine: &Engine, host: &str, target: &str) -> Search {
        let line = [(":method", "GET"), (":path", target), (":authority", host), (":scheme", "http")];
        let line = line.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        match engine.plan(&Arrived::new(&Fields::from_pairs(line.collect()), true, &|_| None)) {
            Plan::Read(reading) => {
                let search = reading.wanted.search.unwrap();
                assert_eq!(search.exact(), Some(reading.wanted.key));
                search
            }
            other => panic!("{other:?}"),
        }
    }

    fn key(value: &str, query: &str) -> CacheKey {
        search(&engine("k:{path}", "t"), "h", &format!("/a?{query}")).key(&variance(value).unwrap()).unwrap()
    }

    /// The draft's "parse a URL search variance".
    #[test]
    fn what_is_not_as_the_draft_has_it_makes_all_parameters_matter() {
        for value in [
            "",
            "key-order",
            "key-order=?0",
            "params=?0",
            "params=()",
            "params=\"a\"",
            "params=a",
            "params=(a)",
            "params=(\"a\" 1)",
            "params=(\"a\"), except=(\"b\")",
            "except=(\"b\")",
            "params=?0, except=(\"b\")",
            "params, except",
            "params, except=\"b\"",
            "params, except=(\"b\" c)",
            "params, key-order=1",
            "params, unknown",
            "params,",
            "params=(\"a\"",
            "Params",
        ] {
            assert_eq!(variance(value), None, "{value}");
        }
        assert_eq!(Variance::of(&Fields::default()), None);
        let long = format!("params=(\"{}\")", "x".repeat(TEXT_BYTES_MAX));
        assert_eq!(variance(&long), None);
    }

    /// The draft's "obtain a URL search variance" and "parse a key".
    #[test]
    fn names_are_decoded_and_the_last_of_equal_members_counts() {
        for (value, text) in [
            ("params", "+"),
            ("params;x=1, key-order", "+"),
            ("params=(\"b\" \"a\" \"b\")", "-a&b&"),
            ("params=(\"a\";q=1)", "-a&"),
            ("params, params=(\"a\")", "-a&"),
            ("except=(\"b\"), params", "+b&"),
            ("params, except=()", "+"),
            ("params=(\"\")", "-&"),
            ("params, except=(\"\")", "+&"),
            ("params=(\"a%26b+c%2B\")", "-a%26b%20c+&"),
            ("params=(\"%e4\")", "-%EF%BF%BD&"),
        ] {
            let variance = variance(value).unwrap();
            assert_eq!(variance.text(), text, "{value}");
            assert_eq!(Variance::read(text), Some(variance), "{value}");
        }
    }

    /// The draft's "equivalent modulo search variance".
    #[test]
    fn queries_that_differ_only_in_what_does_not_matter_have_one_key() {
        for (value, one, two, same) in [
            ("params=(\"utm\")", "a=1", "utm=x&a=1", true),
            ("params=(\"utm\")", "a=1&utm=y", "utm=x&a=1&utm", true),
            ("params=(\"utm\")", "a=1", "a=2&utm=x", false),
            ("params=(\"utm\")", "a=1", "a=1&UTM=x", false),
            ("params=(\"utm\")", "a=1", "a=1&utm%5fx=1", false),
            ("params=(\"u m\")", "a=1", "a=1&u+m=2&u%20m=3", true),
            ("params=(\"%75tm\")", "a=1", "a=1&u%74m=2", true),
            ("params=(\"%C3%A9\")", "a=1", "a=1&%c3%a9=1", true),
            ("params", "a=1", "b=2", true),
            ("params", "", "b=2", true),
            ("params, except=(\"a\")", "a=1&b=1", "c=3&a=1", true),
            ("params, except=(\"a\")", "a=1", "a=2", false),
            ("params, except=(\"a\")", "a=1&a=2", "a=2&a=1", false),
            ("params=(\"x\"), key-order", "a=1&b=2", "b=2&x&a=1", true),
            ("params=(\"utm\")", "a=1", "a=1&utm=x;a=2", false),
        ] {
            assert_eq!(key(value, one) == key(value, two), same, "{value}: {one}, {two}");
        }
    }

    /// C7.
    #[test]
    fn what_one_response_says_of_one_path_is_not_for_another() {
        let engine = engine("k:{path}:{query.page|default(1)}", "t:{query.user|default(0)}");
        let params = variance("params").unwrap();
        let at = |host: &str, target: &str| search(&engine, host, target).key(&params).unwrap();
        assert_eq!(at("h", "/a?x=1"), at("h", "/a"));
        assert_ne!(at("h", "/a"), at("h", "/b"));
        assert_ne!(at("h", "/a"), at("g", "/a"));
        assert_ne!(at("h", "/a?page=1"), at("h", "/a?page=2"), "the key's template holds it");
        assert_ne!(at("h", "/a?user=1"), at("h", "/a?user=2"), "a tag holds it");
        let here = search(&engine, "h", "/a?x=1");
        let list = variance("params=(\"x\")").unwrap();
        let keys = [here.exact(), here.base(), here.key(&params), here.key(&list)];
        assert!(keys.iter().enumerate().all(|(place, key)| key.is_some() && !keys[..place].contains(key)), "{keys:?}");
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten_and_two_gateways_know_of_both_of_theirs() {
        let of = |number: usize| variance(&format!("params=(\"{number}\")")).unwrap();
        let all = (0..10).map(of).fold(Variances::default(), Variances::with);
        assert_eq!(all.0, (10 - VARIANCES_MAX..10).map(of).collect::<Vec<_>>());
        assert_eq!(all.clone().merged(all.clone()), all);
        let both = Variances::default().with(of(1)).merged(Variances::default().with(of(2)));
        assert_eq!(both.0, [of(2), of(1)]);
    }

    /// The draft's comparison, but for the order of different names, which never matters in our keys.
    fn equivalent(variance: &Variance, one: &str, two: &str) -> bool {
        let parse = |query: &str| {
            let mut pairs: Vec<(String, String)> = url_pairs(query);
            pairs.retain(|(name, _)| variance.names.contains(name) == variance.inverted);
            pairs.sort_by(|(one, _), (two, _)| one.cmp(two));
            pairs
        };
        parse(one) == parse(two)
    }

    /// `application/x-www-form-urlencoded`, as the URL standard parses it.
    fn url_pairs(query: &str) -> Vec<(String, String)> {
        let decode = |text: &str| {
            let bytes = text.as_bytes();
            let (mut out, mut at) = (Vec::new(), 0);
            while at < bytes.len() {
                let hex = text.get(at + 1..at + 3).and_then(|pair| u8::from_str_radix(pair, 16).ok());
                match (bytes[at], hex) {
                    (b'+', _) => out.push(b' '),
                    (b'%', Some(byte)) => {
                        out.push(byte);
                        at += 2;
                    }
                    (byte, _) => out.push(byte),
                }
                at += 1;
            }
            String::from_utf8_lossy(&out).into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect()
    }

    proptest! {
        /// C7: no key brings together what the draft tells apart.
        #[test]
        fn different_queries_have_different_keys(
            names in prop::collection::vec("(a|b|%61|c|a%26|\\+)", 0..3),
            inverted: bool,
            one in "((a|b|c|%61|a%26|\\+|%2B|;)?(=(1|%31|2|=|;))?&){0,4}",
            two in "((a|b|c|%61|a%26|\\+|%2B|;)?(=(1|%31|2|=|;))?&){0,4}",
        ) {
            let list = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ");
            let value = if inverted { format!("params, except=({list})") } else { format!("params=({list})") };
            if let Some(variance) = variance(&value) {
                let engine = engine("k:{path}", "t");
                let key = |query: &str| search(&engine, "h", &format!("/a?{query}")).key(&variance);
                if key(&one) == key(&two) {
                    prop_assert!(equivalent(&variance, &one, &two), "{value}: {one} and {two} are {:?}", key(&one));
                }
                // And the other way round, where nothing is spelled in two ways.
                let plain = |query: &str| !query.contains([';', '%', '+']);
                if plain(&one) && plain(&two) && equivalent(&variance, &one, &two) {
                    prop_assert_eq!(key(&one), key(&two));
                }
            }
        }

        #[test]
        fn no_bytes_make_the_readers_panic(value: Vec<u8>, text: String) {
            let _ = Variance::of(&Fields::from_pairs(vec![(b"no-vary-search", &value)]));
            let _ = Variance::read(&text);
        }
    }
}
