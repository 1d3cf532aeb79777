//! What a request wants of the cache ([`Wanted`]), and whether a stored response answers it ([`Wanted::reuse`]).

use crate::cache_control::RequestControl;
use crate::cache_status::Forward;
use crate::entry::Entry;
use crate::key::CacheKey;
use crate::no_vary_search::Search;
use crate::planted::planted;
use crate::policy::DeltaSeconds;

/// What a request wants of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The whole cache key, without selecting fields.
    pub key: CacheKey,
    /// What other keys are made of, where responses may say which parameters matter.
    pub search: Option<Search>,
    /// [`fingerprint`](crate::policy::Rule::fingerprint) of the rule.
    pub fingerprint: u64,
    /// Index of the rule in the policy.
    pub rule: usize,
    /// Whether it isn't a HEAD, so that the origin's answer may be stored; a HEAD is answered from what GET stored.
    pub is_get: bool,
    /// Whether it is a POST, whose body is in the key: no conditions and no ranges go with it.
    pub is_post: bool,
    /// Its own directives, as far as the rule lets them count.
    pub control: RequestControl,
    /// It carries `Authorization`, which the key doesn't hold (RFC 9111 §3.5).
    pub authorised: bool,
    /// Its client came by https.
    pub https: bool,
    /// The filter may fetch on its behalf.
    pub may_refresh: bool,
    /// What was stored from then on (milliseconds of the monotonic clock) was fetched or validated for this request, and
    /// answers it however stale it is by now.
    pub fetched_ms: Option<u64>,
}

/// What is stored under a key, held against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It answers the request.
    Yes,
    /// It would, if the origin said that it still holds (RFC 9111 §4.3); this is why it has to be asked.
    Validate(Forward),
    /// It doesn't, and this is why the request is forwarded.
    No(Forward),
}

impl Wanted {
    /// Wants it from the origin, for the tiers ([`crate::fetch`]): nothing that is stored answers it, and nothing is
    /// fetched on its behalf.
    pub fn is_fetched(&mut self) {
        self.control = RequestControl { no_cache: true, ..RequestControl::default() };
        self.may_refresh = false;
    }

    /// Whether an entry that a tier holds under `key`'s hash answers the request, purges aside (RFC 9111 §4). `key` is
    /// [`Wanted::key`], one of [`Wanted::search`], or that of the variant which the request selects.
    #[must_use]
    pub fn reuse(&self, key: &CacheKey, entry: &Entry, now_ms: u64) -> Reuse {
        // Status 0 is no response: it tells of others.
        let other_key = entry.key() != key.as_str() && !planted("key_uncompared");
        if other_key || entry.fingerprint() != self.fingerprint || entry.status() == 0 {
            return Reuse::No(Forward::UriMiss);
        }
        let (freshness, control) = (entry.freshness(), &self.control);
        if self.authorised && !freshness.shareable {
            return Reuse::No(Forward::Bypass); // §3.5
        }
        if self.fetched_ms.is_some_and(|fetched_ms| entry.received_ms() >= fetched_ms) {
            return Reuse::Yes;
        }
        let over = |limit: Option<DeltaSeconds>, ms: u64| limit.is_some_and(|limit| ms > limit.as_millis());
        let (age_ms, fresh_ms) = (entry.age_ms(now_ms), entry.fresh_ms(now_ms));
        if freshness.no_cache {
            Reuse::Validate(Forward::Stale) // §5.2.2.4
        } else if control.no_cache || over(control.max_age, age_ms) {
            Reuse::Validate(Forward::Request) // §5.2.1.4, §5.2.1.1
        } else if fresh_ms > 0 {
            let too_soon = control.min_fresh.is_some_and(|wanted| fresh_ms < wanted.as_millis());
            if too_soon { Reuse::Validate(Forward::Request) } else { Reuse::Yes } // §5.2.1.3
        } else {
            let allowed = control.max_stale.is_some() && !over(control.max_stale, entry.stale_ms(now_ms)); // §5.2.1.2
            // RFC 5861 §3; a client that says how fresh it wants it gets no other.
            let unasked = control.max_age.is_none() && control.min_fresh.is_none() && control.max_stale.is_none();
            let behind = self.may_refresh && unasked && entry.may_be_refreshed_behind(now_ms);
            let allowed = (allowed || behind) && !freshness.must_revalidate;
            if allowed { Reuse::Yes } else { Reuse::Validate(Forward::Stale) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Freshness, Parts, Ticket};
    use crate::policy::{Action, ClientDirectives, Terms};
    use crate::request::tests::{engine, fields};
    use crate::request::{Arrived, Engine, Plan};

    fn wanted(lines: &[(&str, &str)], terms: Terms) -> Wanted {
        let mut policy = engine().policy().clone();
        if let Action::Cache(cache) = &mut policy.rules[0].action {
            cache.terms = terms;
        }
        let engine = Engine::new(policy);
        match engine.plan(&Arrived::new(&fields("GET", "/users/7", lines), true, &|_| None)) {
            Plan::Read(reading) => reading.wanted,
            other => panic!("{other:?}"),
        }
    }

    fn entry(wanted: &Wanted, freshness: Freshness) -> Entry {
        Entry::new(&Parts {
            ticket: Ticket { era: 1, position: 1 },
            received_ms: 0,
            freshness,
            fingerprint: wanted.fingerprint,
            status: 200,
            key: wanted.key.as_str(),
            tags: &[],
            header: &[],
            body: b"",
        })
        .unwrap()
    }

    /// C7.
    #[test]
    fn an_entry_is_reused_only_for_its_key_its_rule_and_while_fresh() {
        let wanted = wanted(&[], Terms::default());
        let entry = entry(&wanted, Freshness { lifetime_ms: 1000, ..Freshness::default() });
        let reuse = |wanted: &Wanted, now_ms| wanted.reuse(&wanted.key, &entry, now_ms);
        assert_eq!(reuse(&wanted, 999), Reuse::Yes);
        assert_eq!(reuse(&wanted, 1000), Reuse::Validate(Forward::Stale));
        let miss = Reuse::No(Forward::UriMiss);
        assert_eq!(reuse(&Wanted { fingerprint: wanted.fingerprint ^ 1, ..wanted.clone() }, 0), miss);
        assert_eq!(reuse(&Wanted { key: CacheKey::for_tests("other"), ..wanted }, 0), miss);
    }

    /// RFC 9111 §5.2.1, each directive; an entry of 10 s, with 20 s left or 5 s stale.
    #[test]
    fn a_requests_directives_count_where_the_rule_honours_them() {
        let (fresh, stale) = (10_000, 35_000);
        let yes = Reuse::Yes;
        let validate = |why| Reuse::Validate(why);
        for (line, now_ms, honoured, distrusted) in [
            ("no-cache", fresh, validate(Forward::Request), yes),
            ("max-age=9", fresh, validate(Forward::Request), yes),
            ("max-age=10", fresh, yes, yes),
            ("min-fresh=20", fresh, yes, yes),
            ("min-fresh=21", fresh, validate(Forward::Request), yes),
            ("max-stale", stale, yes, validate(Forward::Stale)),
            ("max-stale=5", stale, yes, validate(Forward::Stale)),
            ("max-stale=4", stale, validate(Forward::Stale), validate(Forward::Stale)),
            ("max-stale, max-age=10", stale, validate(Forward::Request), validate(Forward::Stale)),
        ] {
            for (directives, expected) in
                [(ClientDirectives::Honour, honoured), (ClientDirectives::Distrust, distrusted)]
            {
                let terms = Terms { client_directives: directives, ..Terms::default() };
                let wanted = wanted(&[("cache-control", line)], terms);
                let entry = entry(&wanted, Freshness { lifetime_ms: 30_000, ..Freshness::default() });
                assert_eq!(wanted.reuse(&wanted.key, &entry, now_ms), expected, "{line}, {directives:?}");
            }
        }
    }

    /// RFC 9111 §5.2.2.2, §5.2.2.4 and §3.5.
    #[test]
    fn what_the_response_forbids_no_request_can_ask_for() {
        let terms = Terms { client_directives: ClientDirectives::Honour, ..Terms::default() };
        let lenient = wanted(&[("cache-control", "max-stale")], terms);
        let judge = |wanted: &Wanted, freshness, now_ms| wanted.reuse(&wanted.key, &entry(wanted, freshness), now_ms);
        let fresh = Freshness { lifetime_ms: 1000, ..Freshness::default() };
        let stale = Reuse::Validate(Forward::Stale);
        assert_eq!(judge(&lenient, Freshness { must_revalidate: true, ..fresh }, 2000), stale);
        assert_eq!(judge(&lenient, Freshness { must_revalidate: true, ..fresh }, 0), Reuse::Yes);
        assert_eq!(judge(&lenient, Freshness { no_cache: true, ..fresh }, 0), stale);
        let authorised = wanted(&[("authorization", "x")], Terms::default());
        assert_eq!(judge(&authorised, fresh, 0), Reuse::No(Forward::Bypass));
        assert_eq!(judge(&authorised, Freshness { shareable: true, ..fresh }, 0), Reuse::Yes);
    }

    /// RFC 5861 §3.
    #[test]
    fn what_is_stale_is_reused_within_its_window_where_it_can_be_refreshed_and_the_client_does_not_mind() {
        let freshness = Freshness { lifetime_ms: 1000, stale_while_revalidate_ms: 2000, ..Freshness::default() };
        let honour = || Terms { client_directives: ClientDirectives::Honour, ..Terms::default() };
        let (yes, stale) = (Reuse::Yes, Reuse::Validate(Forward::Stale));
        for (line, background, now_ms, expected) in [
            (("x", ""), true, 1000, yes),
            (("x", ""), true, 2999, yes),
            (("x", ""), true, 3000, stale),
            (("x", ""), false, 1000, stale),
            (("cdn-loop", "routecache"), true, 1000, stale),
            (("cache-control", "no-store"), true, 1000, stale),
            (("cache-control", "max-age=60"), true, 1000, stale),
            (("cache-control", "max-stale=1"), true, 2001, stale),
            (("cache-control", "min-fresh=0"), true, 1000, stale),
        ] {
            let wanted = Wanted {
                may_refresh: background && wanted(&[line], honour()).may_refresh,
                ..wanted(&[line], honour())
            };
            assert_eq!(wanted.reuse(&wanted.key, &entry(&wanted, freshness), now_ms), expected, "{line:?} {now_ms}");
        }
        let strict = Freshness { must_revalidate: true, ..freshness };
        let wanted = wanted(&[], honour());
        assert_eq!(wanted.reuse(&wanted.key, &entry(&wanted, strict), 1000), stale);
    }

    #[test]
    fn what_was_fetched_for_a_request_answers_it_however_stale_it_is_by_then() {
        let wanted = wanted(&[], Terms::default());
        let entry = entry(&wanted, Freshness { no_cache: true, ..Freshness::default() });
        let fetched = |fetched_ms| Wanted { fetched_ms: Some(fetched_ms), ..wanted.clone() };
        assert_eq!(fetched(0).reuse(&wanted.key, &entry, 5000), Reuse::Yes);
        assert_eq!(fetched(1).reuse(&wanted.key, &entry, 5000), Reuse::Validate(Forward::Stale));
    }
}
