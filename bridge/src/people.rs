//! What people and programs ask for: purges by what they know, a look at an entry, and a key space of their own.

use bridge_api::{Hearing, Pattern, Position, PurgeReply, PurgeRequest, Ticket};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::limits::{PATTERN_BYTES_MAX, PATTERNS_MAX, TAGS_MAX, check_key, check_namespace, check_tags};
use crate::{Error, KeyOf, Service};

/// Parameters of a URL that is purged: a rule's key may hold any of them, so each selection has a tag.
const URL_PARAMETERS_MAX: usize = 7;

/// Tags of URLs before equal ones are told apart.
const URL_TAGS_MAX: usize = 16 * TAGS_MAX;

/// Purges everything that any of these names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeOrder {
    /// Prefix and version.
    pub namespace: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Cache keys: their entries, and whatever shares a URL with them.
    #[serde(default)]
    pub keys: Vec<String>,
    /// URLs, `https://host/path?query`: their entries whatever the rule's query selection is.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Rules, by name.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Patterns.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// Everything in the namespace.
    #[serde(default)]
    pub everything: bool,
    /// Only count what is held and would be purged.
    #[serde(default)]
    pub dry_run: bool,
    /// Make it stale rather than void. Patterns can't, nor can keys that the store doesn't hold.
    #[serde(default)]
    pub soft: bool,
    /// Hold the answer until every gateway has heard of it.
    #[serde(default)]
    pub hear: Option<Hearing>,
}

/// What a dry run found. The scan is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PurgeCount {
    /// Entries that would be purged.
    pub matching: u64,
    /// Entries that were looked at.
    pub scanned: u64,
    /// False if there are more than were looked at.
    pub complete: bool,
}

/// What came of a purge order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Ordered {
    /// It is in the log.
    Purged(PurgeReply),
    /// Nothing has been done.
    Counted(PurgeCount),
}

/// Asks what is held for a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryRequest {
    /// Prefix and version.
    pub namespace: String,
    /// The whole cache key.
    pub key: String,
    /// Whether to send the stored bytes too.
    #[serde(default)]
    pub body: bool,
}

/// An entry as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum EntryReply {
    /// It is held.
    Held {
        /// Whether a lookup would give it: nothing was purged since its fill began.
        valid: bool,
        /// All its tags.
        tags: Vec<String>,
        /// The place in the log at which its fill began.
        at: Position,
        /// Milliseconds since it was stored.
        resident_ms: u64,
        /// Milliseconds until it goes.
        remaining_ms: u64,
        /// Bytes of the stored response.
        bytes: usize,
    },
    /// Nothing is.
    None,
}

/// What a store holds for a key, valid or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The whole cache key.
    pub key: String,
    /// All its tags.
    pub tags: Vec<String>,
    /// The ticket of its fill.
    pub ticket: Ticket,
    /// Milliseconds since it was stored.
    pub resident_ms: u64,
    /// Milliseconds until it goes.
    pub remaining_ms: u64,
    /// The stored response.
    pub payload: Bytes,
}

/// Some of the entries of a namespace: keys with their tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What was found.
    pub entries: Vec<(String, Vec<String>)>,
    /// False if there are more.
    pub complete: bool,
}

/// What to do with a key of the applications' key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyCall {
    /// Read it.
    Get,
    /// Write it, whatever was there.
    Set {
        /// What to keep.
        value: Bytes,
        /// How long, in milliseconds.
        ttl_ms: u64,
    },
    /// Write it if nothing is there.
    Add {
        /// What to keep.
        value: Bytes,
        /// How long, in milliseconds.
        ttl_ms: u64,
    },
    /// Remove it.
    Delete,
    /// Remove it and say what it was.
    Pop,
    /// Add to the number that it holds, 0 if there is none.
    Increment {
        /// How much; less than 0 takes away.
        by: i64,
        /// How long a new one is kept, in milliseconds.
        ttl_ms: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReply {
    /// The key holds nothing.
    Absent,
    /// It held this, for so many more milliseconds.
    Value(Bytes, u64),
    /// It holds this number now.
    Number(i64),
    /// Written, or removed.
    Done,
    /// Something was there already.
    Present,
    /// It holds something else than a number, or the sum would be too large.
    NoNumber,
    /// The store has no room for it.
    Full,
}

/// Keys that were deleted by pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// How many.
    pub deleted: u64,
    /// False if there may be more: repeat it.
    pub complete: bool,
}

impl Service {
    /// Purges by whatever is known, or counts.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: then it may have been purged or not, so repeat it.
    pub async fn order(&self, order: &PurgeOrder) -> Result<Ordered, Error> {
        check_tags(&order.tags)?;
        check_patterns(&order.patterns)?;
        let mut tags = order.tags.clone();
        let mut patterns = order.patterns.clone();
        for host in &order.hosts {
            tags.push(format!("!host:{}", host.to_ascii_lowercase()));
        }
        for rule in &order.rules {
            tags.push(format!("!rule:{}", escaped(rule)));
        }
        if order.everything {
            tags.push(bridge_api::TAG_ALL.to_owned());
        }
        for url in &order.urls {
            tags.extend(url_tags(url)?);
            if tags.len() > URL_TAGS_MAX {
                return Err(too_many(tags.len())); // before a long list comes to very many
            }
        }
        if order.keys.len() > TAGS_MAX {
            return Err(too_many(order.keys.len())); // each is looked up
        }
        for key in &order.keys {
            // Gateways purge by tags, and an entry's URL has one; of what nobody holds only the pattern is left.
            let (namespace, key) = (order.namespace.clone(), key.clone());
            check_namespace(&namespace)?;
            check_key(&key)?;
            let of = KeyOf { namespace, key };
            let held = self.held(&of).await?;
            match held.and_then(|held| held.tags.into_iter().find(|tag| tag.starts_with("!url:"))) {
                Some(tag) => tags.push(tag),
                None => patterns.push(Pattern::only_key(&of.key)),
            }
        }
        if tags.is_empty() && patterns.is_empty() {
            return Err(Error::Malformed(
                "the purge names nothing; name tags, keys, urls, hosts, rules, patterns or everything".to_owned(),
            ));
        }
        check_patterns(&patterns)?; // keys that nobody holds are some
        if order.soft {
            if !patterns.is_empty() {
                return Err(Error::NotSoft);
            }
            tags.push(bridge_api::TAG_SOFT.to_owned());
        }
        tags.sort();
        tags.dedup();
        if tags.len() > TAGS_MAX {
            return Err(too_many(tags.len()));
        }
        let request = PurgeRequest { namespace: order.namespace.clone(), tags, hear: order.hear };
        if order.dry_run {
            self.count(&request, &patterns).await.map(Ordered::Counted)
        } else {
            self.purge_all(&request, &patterns).await.map(Ordered::Purged)
        }
    }

    async fn count(&self, request: &PurgeRequest, patterns: &[Pattern]) -> Result<PurgeCount, Error> {
        let listing = self.list(&request.namespace).await?;
        let means = |(key, tags): &&(String, Vec<String>)| {
            tags.iter().any(|tag| request.tags.contains(tag))
                || patterns.iter().any(|pattern| pattern.means(key, tags.iter().map(String::as_str)))
        };
        Ok(PurgeCount {
            matching: listing.entries.iter().filter(means).count() as u64,
            scanned: listing.entries.len() as u64,
            complete: listing.complete,
        })
    }

    /// Shows what is held for a key.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure.
    pub async fn entry(&self, request: EntryRequest) -> Result<(EntryReply, Bytes), Error> {
        let EntryRequest { namespace, key, body } = request;
        let asked = bridge_api::LookupRequest { namespace, key, tags: vec![], ..bridge_api::LookupRequest::default() };
        let (verdict, _) = self.lookup(&asked).await?;
        let Some(held) = self.held(&KeyOf { namespace: asked.namespace, key: asked.key }).await? else {
            return Ok((EntryReply::None, Bytes::new()));
        };
        let Held { tags, ticket, resident_ms, remaining_ms, payload, .. } = held;
        let valid = matches!(verdict, bridge_api::LookupReply::Hit { .. });
        let bytes = payload.len();
        let reply = EntryReply::Held { valid, tags, at: ticket.at, resident_ms, remaining_ms, bytes };
        Ok((reply, if body { payload } else { Bytes::new() }))
    }
}

fn too_many(tags: usize) -> Error {
    Error::TooLarge(format!("this comes to {tags} tags or more, at most {TAGS_MAX} are purged in one call; split it"))
}

fn check_patterns(patterns: &[Pattern]) -> Result<(), Error> {
    if patterns.len() > PATTERNS_MAX {
        return Err(Error::TooLarge(format!(
            "{} patterns are named, at most {PATTERNS_MAX} are taken",
            patterns.len()
        )));
    }
    let too_long = |pattern: &&Pattern| match pattern {
        Pattern::Key(text) | Pattern::Tag(text) => text.len() > PATTERN_BYTES_MAX,
    };
    match patterns.iter().find(too_long) {
        Some(_) => Err(Error::TooLarge(format!("a pattern has more than {PATTERN_BYTES_MAX} bytes"))),
        None => Ok(()),
    }
}

/// The implicit tags that entries of a URL may have: one for each selection of its parameters, since the rules decide which
/// of them are part of a key. Purges too much, never too little.
fn url_tags(url: &str) -> Result<Vec<String>, Error> {
    let malformed = || Error::Malformed(format!("`{url}` is no URL; write `https://host/path?query`"));
    let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
    let (authority, target) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path.is_empty() { "/" } else { path };
    let host = host_of(authority).filter(|_| ["http", "https"].contains(&scheme)).ok_or_else(malformed)?;
    let mut parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    parameters.sort_by_key(|(name, _)| *name); // equal names keep their order
    if parameters.len() > URL_PARAMETERS_MAX {
        return Err(Error::TooLarge(format!(
            "`{url}` has more than {URL_PARAMETERS_MAX} parameters; purge it by a tag or a pattern"
        )));
    }
    let selections = 0..1_u32 << parameters.len();
    Ok(selections
        .map(|selection| {
            let chosen = parameters.iter().enumerate().filter(|(bit, _)| selection >> bit & 1 == 1);
            let query: Vec<String> =
                chosen.map(|(_, (name, value))| format!("{}={}", escaped(name), escaped(value))).collect();
            format!("!url:{:032x}", xxh3_128(format!("{host} {path}?{}", query.join("&")).as_bytes()))
        })
        .collect())
}

/// In lower case, without port and trailing dot; nothing if it is no host.
fn host_of(authority: &str) -> Option<String> {
    let bare = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let number = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    let sound = match bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => !inner.is_empty() && inner.bytes().all(number),
        None => !bare.is_empty() && bare.bytes().all(name),
    };
    sound.then(|| bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase())
}

/// A value as the filter writes it into keys and implicit tags.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    escape(value, &[], &mut out);
    out
}

/// Appends a value as the filter does, who also escapes what could be taken for the text after it.
pub(crate) fn escape(value: &str, stops: &[u8], out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'{' | b'}' | b'!') && !stops.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_tag_for_each_selection_of_its_parameters() {
        let count = |url: &str| url_tags(url).map(|tags| tags.len()).ok();
        assert_eq!(count("https://shop.example/menu"), Some(1));
        assert_eq!(count("https://shop.example/menu?a=1&b=2"), Some(4));
        assert_eq!(count("http://shop.example/?a=1&b=2&c=3&d=4&e=5&f=6&g=7"), Some(128));
        for bad in ["/menu", "ftp://h/", "https:///x", "https://u@h/", "https://h:x/", "https://h/?a&b&c&d&e&f&g&h"] {
            assert_eq!(count(bad), None, "{bad}");
        }
        let tags = |url: &str| url_tags(url).unwrap();
        assert_eq!(tags("https://Shop.Example.:443/a?y=2&x=1#f"), tags("http://shop.example/a?x=1&y=2"));
        assert_eq!(tags("https://h?x=1"), tags("https://h/?x=1"));
        assert_ne!(tags("https://h/a?x=1"), tags("https://h/a?x=2"));
    }
}
