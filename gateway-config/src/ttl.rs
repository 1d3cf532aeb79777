//! Lifetimes: named buckets and durations, in whole seconds.

use routecache_core::policy::{DeltaSeconds, Ttl};

use crate::Environment;
use crate::conditions::pointer;
use crate::mistake::{Wanted, What, listed};
use crate::quantity::{NoQuantity, Quantity, duration_ms};
use crate::suggest::nearest;
use crate::terms::field_name;
use crate::tree::{Kind, shorten};
use crate::vocabulary;
use crate::walk::{At, Found};

/// The buckets that exist in every file, the variable that overrides each, and seconds.
const BUILT_IN: &[(&str, &str, u64)] =
    &[("short", "CACHE_TTL_SHORT", 30), ("default", "CACHE_TTL_DEFAULT", 300), ("long", "CACHE_TTL_LONG", 3600)];

/// Lifetimes by name.
pub(crate) struct Buckets(Vec<(String, DeltaSeconds)>);

impl Buckets {
    /// Those of the file, on top of the built-in ones, below the environment.
    pub(crate) fn read(at: Option<&At<'_>>, env: Environment<'_>, found: &mut Found) -> Self {
        let written = at.and_then(|at| at.entries(found)).unwrap_or_default();
        let mut buckets = Self(
            BUILT_IN
                .iter()
                .map(|(name, _, seconds)| ((*name).to_owned(), DeltaSeconds::saturating(*seconds)))
                .collect(),
        );
        for at in written {
            if !is_bucket_name(at.name) {
                found.add_name(&at, What::BadBucketName(shorten(at.name)));
            }
            if let Some(ttl) = lifetime(&at, None, found) {
                buckets.set(at.name, ttl);
            }
        }
        for (name, variable, _) in BUILT_IN {
            let Some(text) = env(variable) else { continue };
            let said = format!("{variable}={}", shorten(&text));
            match whole_seconds(duration_ms(&text), said) {
                Ok(ttl) => buckets.set(name, ttl),
                Err(what) => found.add_environment(what),
            }
        }
        buckets
    }

    /// The lifetime that a rule asks for.
    pub(crate) fn ttl(&self, at: Option<&At<'_>>, found: &mut Found) -> DeltaSeconds {
        at.map_or_else(|| self.get("default"), |at| lifetime(at, Some(self), found)).unwrap_or_default()
    }

    /// The lifetime of a cache rule: always the same, or found in the response.
    pub(crate) fn rule_ttl(&self, at: Option<&At<'_>>, found: &mut Found) -> Ttl {
        let Some(at) = at.filter(|at| matches!(at.node.kind, Kind::Map(_))) else {
            return Ttl::Fixed(self.ttl(at, found));
        };
        let Some(fields) = at.fields(&vocabulary::TTL, found) else { return Ttl::Fixed(DeltaSeconds::ZERO) };
        let default = self.ttl(fields.get("default"), found);
        let read = match (fields.get("header"), fields.get("json")) {
            (Some(at), None) => {
                let name = at.text(found).and_then(|text| field_name(at, text, found));
                name.map(|name| Ttl::Header { name, default })
            }
            (None, Some(at)) => {
                let pointer = at.text(found).and_then(|text| pointer(at, text, found));
                pointer.map(|pointer| Ttl::Json { pointer, default })
            }
            _ => {
                if !fields.incomplete {
                    found.add(at, What::NotExactlyOne(&["header", "json"]));
                }
                None
            }
        };
        read.unwrap_or(Ttl::Fixed(default))
    }

    fn get(&self, name: &str) -> Option<DeltaSeconds> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, ttl)| *ttl)
    }

    fn set(&mut self, name: &str, ttl: DeltaSeconds) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = ttl,
            None => self.0.push((name.to_owned(), ttl)),
        }
    }

    /// The mistake of naming a bucket that isn't there.
    fn none(&self, text: &str, said: String) -> What {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let similar = nearest(text, names.iter().copied()).map(str::to_owned);
        What::NoSuchBucket { said, similar, buckets: listed(&names) }
    }
}

/// A duration, or a bucket where there are any.
fn lifetime(at: &At<'_>, buckets: Option<&Buckets>, found: &mut Found) -> Option<DeltaSeconds> {
    let read = match &at.node.kind {
        Kind::Text(text) => match (buckets, duration_ms(text)) {
            // A bucket begins with a letter, a duration with a digit.
            (Some(buckets), Err(NoQuantity::Unreadable))
                if text.starts_with(|first: char| first.is_ascii_alphabetic()) =>
            {
                buckets.get(text).ok_or_else(|| buckets.none(text, at.said()))
            }
            (_, quantity) => whole_seconds(quantity, at.said()),
        },
        Kind::Integer(seconds) => whole_seconds(seconds.checked_mul(1000).ok_or(NoQuantity::TooLarge), at.said()),
        Kind::Float(_) => Err(What::NotWholeSeconds { said: at.said() }),
        _ => {
            at.wanted(if buckets.is_some() { Wanted::Ttl } else { Wanted::Duration }, found);
            return None;
        }
    };
    read.map_err(|what| found.add(at, what)).ok()
}

fn whole_seconds(ms: Quantity, said: String) -> Result<DeltaSeconds, What> {
    let ms = match ms {
        Ok(ms) => ms,
        Err(NoQuantity::Unreadable) => return Err(What::NotADuration { said }),
        Err(NoQuantity::TooLarge) => u64::MAX / 1000 * 1000,
    };
    let seconds = ms / 1000;
    if ms % 1000 != 0 {
        return Err(What::NotWholeSeconds { said });
    }
    if seconds > u64::from(DeltaSeconds::MAX.as_secs()) {
        return Err(What::OutOfRange { said, low: "`0s`", high: "`2147483648s`" });
    }
    Ok(DeltaSeconds::saturating(seconds))
}

/// Letters, digits, `_` and `-`, beginning with a letter: no duration looks like that.
fn is_bucket_name(name: &str) -> bool {
    const CHARS_MAX: usize = 64;
    name.len() <= CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
