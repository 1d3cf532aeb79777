//! What the rules have a gateway do by itself, beside asking about what is stale: uses that renew a lifetime, what is asked
//! about however fresh it is, what a write has read again, and what is read at a start.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::history::{Kind, Resource};
use super::plan::USERS;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Whether uses renew a lifetime.
    pub sliding: bool,
    /// Whether chance decides which use before the end has something refreshed.
    pub by_chance: bool,
    /// How long after it was stored something is asked about, however fresh it is.
    pub revalidate_after: Option<Duration>,
    /// What each write has read again.
    pub again: Vec<Again>,
    /// Whether the capture of writes has another name than that of what is read again.
    pub renames: bool,
    /// What is read at a start.
    pub warm: Vec<Resource>,
    /// How many such reads each worker has under way.
    pub concurrency: Option<usize>,
    /// How many begin there in a second.
    pub rate: Option<usize>,
}

/// One thing that a write has read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// What.
    pub kind: Kind,
    /// Whose.
    pub whose: Whose,
}

/// Whose it is that a write has read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user's that was written.
    Written,
    /// Likewise, found among the tags that are purged.
    Tagged,
    /// All users', whom the rules name.
    Named,
    /// All users', whom the body of the write names.
    Sent,
    /// All users', whom the body of its response names.
    Returned,
}

/// Every kind of what is read.
const KINDS: [Kind; 3] = [Kind::User, Kind::Orders, Kind::Basket];

impl Behind {
    /// What a run about it says.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut drawn = Self {
            sliding: chance.percent(50),
            by_chance: chance.percent(40),
            revalidate_after: chance.of(&[None, Some(Duration::from_secs(1)), Some(Duration::from_secs(2))]),
            concurrency: chance.of(&[None, Some(1), Some(1), Some(2)]),
            rate: chance.of(&[None, None, None, Some(4)]),
            ..Self::default()
        };
        match chance.below(10) {
            0..6 => {
                drawn.renames = chance.percent(30);
                let whose = [Whose::Written, Whose::Written, Whose::Tagged, Whose::Named, Whose::Sent, Whose::Returned];
                let mut again: Vec<Again> = KINDS.map(|kind| Again { kind, whose: chance.of(&whose) }).to_vec();
                again.rotate_left(chance.index(3));
                again.truncate(1 + chance.index(3));
                drawn.again = again;
            }
            6..9 => {
                let all = (0..USERS).flat_map(|user| KINDS.map(|kind| Resource { user, kind }));
                drawn.warm = all.filter(|_| chance.percent(80)).collect();
            }
            _ => {}
        }
        drawn
    }

    /// What a write of this user has read again.
    pub fn reads(&self, user: u64) -> Vec<Resource> {
        let of = |again: &Again| match again.whose {
            Whose::Written | Whose::Tagged => vec![Resource { user, kind: again.kind }],
            Whose::Named | Whose::Sent | Whose::Returned => {
                (0..USERS).map(|user| Resource { user, kind: again.kind }).collect()
            }
        };
        self.again.iter().flat_map(of).collect()
    }

    /// Whether it matters what the body of a write's response says.
    pub fn reads_responses(&self) -> bool {
        self.again.iter().any(|again| again.whose == Whose::Returned)
    }

    /// The body of writes and of their responses, where these matter.
    pub fn body(&self) -> Option<String> {
        let matters = |again: &Again| matches!(again.whose, Whose::Sent | Whose::Returned);
        self.again.iter().any(matters).then(|| json!({ "ids": users() }).to_string())
    }

    /// Says it in rules.
    pub fn say(&self, rules: &mut Value) {
        if *self == Self::default() {
            return;
        }
        for route in rules["routes"].as_array_mut().into_iter().flatten() {
            if let Some(cache) = route.get_mut("cache") {
                cache["sliding"] = json!(if self.sliding { "on" } else { "off" });
                if self.by_chance && cache["early"] != json!("0ms") {
                    cache["early"] = json!({ "within": cache["early"], "probabilistic": "on" });
                }
                if let Some(after) = self.revalidate_after {
                    cache["revalidate_after"] = json!(format!("{}s", after.as_secs()));
                }
            } else if !self.again.is_empty() {
                if self.renames {
                    route["match"] = json!({ "path": "/users/{writer}" });
                    route["purge"]["tags"] = json!(["user:{writer}", "owner-{writer}"]);
                }
                route["recache"] = self.again.iter().map(|again| self.recache(*again)).collect();
            }
        }
        if !self.warm.is_empty() {
            let url = |resource: &Resource| format!("http://example.com{}", resource.path());
            rules["warm"] = self.warm.iter().map(url).collect();
        }
        if let Some(concurrency) = self.concurrency {
            rules["limits"]["recache_concurrency"] = json!(concurrency);
        }
        if let Some(rate) = self.rate {
            rules["limits"]["recache_rate"] = json!(rate);
        }
    }

    fn recache(&self, again: Again) -> Value {
        let route = format!("{:?}", again.kind).to_lowercase();
        match again.whose {
            Whose::Written if self.renames => json!({ "route": route, "rename": { "writer": "id" } }),
            Whose::Written => json!({ "route": route, "include": ["id"] }),
            Whose::Tagged => json!({ "route": route, "each": { "id": { "tag": "user:{}" } } }),
            Whose::Named => json!({ "route": route, "set": { "id": users() } }),
            Whose::Sent => json!({ "route": route, "each": { "id": { "request_json": "/ids/*" } } }),
            Whose::Returned => json!({ "route": route, "each": { "id": { "json": "/ids/*" } } }),
        }
    }
}

fn users() -> Vec<String> {
    (0..USERS).map(|user| user.to_string()).collect()
}

impl fmt::Display for Behind {
    /// What the rules say; nothing, if they don't.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = [(self.sliding, "sliding"), (self.by_chance, "by chance"), (self.renames, "renamed")];
        told.iter().filter(|(is, _)| *is).try_for_each(|(_, what)| write!(f, ", {what}"))?;
        self.revalidate_after.map_or(Ok(()), |after| write!(f, ", asked about after {after:?}"))?;
        self.again.iter().try_for_each(|Again { kind, whose }| write!(f, ", {kind:?} ({whose:?}) read again"))?;
        if !self.warm.is_empty() {
            write!(f, ", {} warmed", self.warm.len())?;
        }
        self.concurrency.map_or(Ok(()), |concurrency| write!(f, ", {concurrency} at a time"))?;
        self.rate.map_or(Ok(()), |rate| write!(f, ", {rate} in a second"))
    }
}
