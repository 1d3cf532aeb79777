//! Webhooks: what a content system sends when something has changed becomes purges. A delivery is [checked](signature), then
//! [templates](template) say what it purges.

pub mod signature;
pub mod template;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use self::signature::{Check, Doubt, Genuine, Scheme};
use self::template::{Delivery, Template};
use crate::Error;
use crate::limits::{TAGS_MAX, check_namespace};
use crate::people::PurgeOrder;

/// Bytes of a delivery's body.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Tags, URLs, hosts or rules that one delivery comes to.
const TEXTS_MAX: usize = 4096;

/// URLs among them: each is purged in a call of its own.
const URLS_MAX: usize = 64;

/// Hooks of one bridge.
const HOOKS_MAX: usize = 100;

/// Deliveries that are remembered, of all hooks together.
const REMEMBERED_MAX: usize = 10_000;

/// How old a delivery may be, in seconds, where nothing else is said, and at most.
const WINDOW_S: (u64, u64) = (300, 3600);

/// One hook, as the settings' file has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    /// Where it purges: prefix and version.
    pub namespace: String,
    /// The variable that holds its secrets.
    pub secret_env: Option<String>,
    /// The file that holds its secrets.
    pub secret_file: Option<PathBuf>,
    /// What the sender signs.
    #[serde(default)]
    pub signature: Scheme,
    /// The field of the signature.
    pub header: Option<String>,
    /// How old a delivery may be, in seconds.
    pub window_s: Option<u64>,
    /// Tags that a delivery purges.
    #[serde(default)]
    pub tags: Vec<String>,
    /// URLs.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Everything in the namespace.
    #[serde(default)]
    pub everything: bool,
}

/// A hook that can be used.
pub(crate) struct Hook {
    name: String,
    namespace: String,
    window_s: u64,
    check: Check,
    tags: Vec<Template>,
    urls: Vec<Template>,
    hosts: Vec<Template>,
    rules: Vec<Template>,
    everything: bool,
}

impl Hook {
    fn new(name: &str, settings: &HookSettings) -> Result<Self, String> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(named) {
            return Err("its name has other characters than A-Z a-z 0-9 _ - or more than 64".to_owned());
        }
        check_namespace(&settings.namespace).map_err(|error| error.to_string())?;
        let secrets = match (&settings.secret_env, &settings.secret_file) {
            (Some(variable), None) => std::env::var(variable).map_err(|_| format!("the variable {variable} isn't set")),
            (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display())),
            _ => Err("name either `secret_env` or `secret_file`".to_owned()),
        }?;
        let window_s = settings.window_s.unwrap_or(WINDOW_S.0);
        if !(1..=WINDOW_S.1).contains(&window_s) {
            return Err(format!("`window_s` is 1 to {}", WINDOW_S.1));
        }
        let check = Check::new(settings.signature, settings.header.as_deref(), window_s, &secrets)?;
        let templates =
            |texts: &[String]| texts.iter().map(|text| Template::parse(text)).collect::<Result<Vec<_>, _>>();
        let hook = Self {
            name: name.to_owned(),
            namespace: settings.namespace.clone(),
            window_s,
            check,
            tags: templates(&settings.tags)?,
            urls: templates(&settings.urls)?,
            hosts: templates(&settings.hosts)?,
            rules: templates(&settings.rules)?,
            everything: settings.everything,
        };
        if !hook.everything && hook.templates().next().is_none() {
            return Err("it purges nothing; name tags, urls, hosts, rules or everything".to_owned());
        }
        Ok(hook)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        [&self.tags, &self.urls, &self.hosts, &self.rules].into_iter().flatten()
    }

    /// Whether a delivery is genuine, `now_s` seconds after 1970.
    pub(crate) fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: u64) -> Result<Genuine, Doubt> {
        self.check.verify(headers, body, now_s)
    }

    /// What a delivery purges, in calls that each keep the bounds; none if it names nothing that this hook knows.
    pub(crate) fn orders(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<PurgeOrder>, Error> {
        let payload: Value = if self.templates().any(Template::needs_payload) {
            serde_json::from_slice(body).map_err(|error| Error::Malformed(format!("the body is no JSON: {error}")))?
        } else {
            Value::Null
        };
        let from = Delivery { headers, payload: &payload };
        let too_many = |max| move |_| Error::TooLarge(format!("the delivery names more than {max} things to purge"));
        let filled = |templates: &[Template], as_tags: bool, max: usize| -> Result<Vec<String>, Error> {
            let mut texts = Vec::new();
            for template in templates {
                let left = max - texts.len();
                let found = if as_tags { template.tags(&from, left) } else { template.texts(&from, left) };
                texts.extend(found.map_err(too_many(max))?);
            }
            texts.sort();
            texts.dedup();
            Ok(texts)
        };
        let order = || PurgeOrder { namespace: self.namespace.clone(), ..PurgeOrder::default() };
        let mut orders = Vec::new();
        if self.everything {
            orders.push(PurgeOrder { everything: true, ..order() });
        }
        let (tags, hosts) = (filled(&self.tags, true, TEXTS_MAX)?, filled(&self.hosts, false, TEXTS_MAX)?);
        orders.extend(tags.chunks(TAGS_MAX).map(|tags| PurgeOrder { tags: tags.to_vec(), ..order() }));
        orders.extend(hosts.chunks(TAGS_MAX).map(|hosts| PurgeOrder { hosts: hosts.to_vec(), ..order() }));
        let (rules, urls) = (filled(&self.rules, false, TEXTS_MAX)?, filled(&self.urls, false, URLS_MAX)?);
        orders.extend(rules.chunks(TAGS_MAX).map(|rules| PurgeOrder { rules: rules.to_vec(), ..order() }));
        orders.extend(urls.into_iter().map(|url| PurgeOrder { urls: vec![url], ..order() }));
        Ok(orders)
    }
}

/// The hooks that count now; replaced as a whole.
#[derive(Clone, Default)]
pub struct Hooks {
    known: Arc<RwLock<Known>>,
    seen: Arc<Mutex<Seen>>,
}

type Known = BTreeMap<String, Arc<Hook>>;

/// A hook that can't be used, and how to mend it. Never quotes a secret.
#[derive(Debug, thiserror::Error)]
#[error("hook `{}`: {what}", name.escape_debug())]
pub struct UnusableHook {
    name: String,
    what: String,
}

impl Hooks {
    /// The hooks of the settings' file.
    ///
    /// # Errors
    ///
    /// The first that can't be used.
    pub fn new(settings: &BTreeMap<String, HookSettings>) -> Result<Self, UnusableHook> {
        let failed = |name: &str, what| UnusableHook { name: name.to_owned(), what };
        if let Some((name, _)) = settings.iter().nth(HOOKS_MAX) {
            return Err(failed(name, format!("there are more than {HOOKS_MAX}")));
        }
        let hook = |(name, settings): (&String, &HookSettings)| {
            let hook = Hook::new(name, settings).map_err(|what| failed(name, what))?;
            Ok((name.clone(), Arc::new(hook)))
        };
        let known = settings.iter().map(hook).collect::<Result<_, _>>()?;
        Ok(Self { known: Arc::new(RwLock::new(known)), seen: Arc::default() })
    }

    /// From now on those of the other; which deliveries have been here is kept.
    pub fn replace(&self, other: &Self) {
        let known = other.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Hook>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether this delivery has been carried out before. Only one that says who it is can be known again; another purges
    /// once more, which costs misses and nothing else.
    pub(crate) fn has_seen(&self, hook: &Hook, genuine: &Genuine, now_s: u64) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        genuine.id.as_ref().is_some_and(|id| seen.until.get(&name_of(hook, id)).is_some_and(|until| *until >= now_s))
    }

    /// It has been carried out now, so that the same need not be again while it is in time.
    pub(crate) fn remember(&self, hook: &Hook, genuine: &Genuine, now_s: u64) {
        let Some(id) = &genuine.id else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever sent it may be ahead by a window, and it counts for one more.
        seen.add(name_of(hook, id), now_s + 2 * hook.window_s);
    }
}

fn name_of(hook: &Hook, id: &str) -> u128 {
    xxh3_128(format!("{} {id}", hook.name).as_bytes())
}

/// Deliveries that have been carried out, and until when, in seconds after 1970.
#[derive(Default)]
struct Seen {
    until: HashMap<u128, u64>,
    oldest_first: VecDeque<u128>,
}

impl Seen {
    fn add(&mut self, name: u128, until: u64) {
        if self.until.insert(name, until).is_none() {
            self.oldest_first.push_back(name);
        }
        while self.oldest_first.len() > REMEMBERED_MAX {
            self.oldest_first.pop_front().and_then(|oldest| self.until.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(text: &str) -> Result<Hook, String> {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hushhushhushhush\n").unwrap();
        let settings = format!("namespace = 'shop:v1'\nsecret_file = '{}'\n{text}", secret.display());
        let settings: HookSettings = toml::from_str(&settings).map_err(|error| error.message().to_owned())?;
        Hook::new("cms", &settings)
    }

    #[test]
    fn a_delivery_becomes_orders_that_keep_the_bounds() {
        let hook = hook("tags = ['menu', 'dish:{/ids/*}']\nurls = ['https://shop.example{/path}']\nrules = ['cart']");
        let hook = hook.unwrap();
        let ids: Vec<usize> = (0..600).collect();
        let body = serde_json::json!({ "ids": ids, "path": "/menu?page=2" }).to_string();
        let orders = hook.orders(&HeaderMap::new(), body.as_bytes()).unwrap();
        let sizes: Vec<_> =
            orders.iter().map(|order| (order.tags.len(), order.rules.len(), order.urls.len())).collect();
        assert_eq!(sizes, [(256, 0, 0), (256, 0, 0), (89, 0, 0), (0, 1, 0), (0, 0, 1)]);
        assert_eq!(orders[4].urls, ["https://shop.example/menu?page=2"]);
        assert!(orders.iter().all(|order| order.namespace == "shop:v1" && !order.everything));
        let ids: Vec<usize> = (0..5000).collect();
        let body = serde_json::json!({ "ids": ids }).to_string();
        assert!(matches!(hook.orders(&HeaderMap::new(), body.as_bytes()), Err(Error::TooLarge(_))));
        for odd in [&b""[..], b"{", b"\xff"] {
            assert!(matches!(hook.orders(&HeaderMap::new(), odd), Err(Error::Malformed(_))));
        }
        let tags = |body: &str| hook.orders(&HeaderMap::new(), body.as_bytes()).unwrap().remove(0).tags;
        assert_eq!(tags("[]"), ["menu"]);
    }

    #[test]
    fn a_hook_that_makes_no_sense_is_refused_without_its_secret() {
        let cases = [
            ("", "purges nothing"),
            ("tags = ['{']", "a brace stands alone"),
            ("tags = ['a']\nwindow_s = 0", "`window_s` is 1 to 3600"),
            ("tags = ['a']\nsecret_env = 'X'", "either `secret_env` or `secret_file`"),
            ("tags = ['a']\nsignature = 'md5'", "unknown variant `md5`"),
            ("tag = 'a'", "unknown field `tag`"),
        ];
        for (text, told) in cases {
            let Err(error) = hook(text) else { panic!("{text}") };
            assert!(error.contains(told) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn deliveries_are_remembered_within_bounds() {
        let mut seen = Seen::default();
        for number in 0..3 * REMEMBERED_MAX as u128 {
            seen.add(number % (2 * REMEMBERED_MAX as u128), 1);
        }
        assert_eq!((seen.until.len(), seen.oldest_first.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
