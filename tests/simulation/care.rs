//! What the rules say of load: how far a lock reaches, what is refreshed, and what an error may cost.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::behind::Behind;
use super::chance::Chance;
use super::plan::Theme;

/// How far a lock reaches: those within ask the origin once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names of the rules' values")]
pub enum Reach {
    Off,
    Worker,
    Gateway,
    Group,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Care {
    /// Whether the rules say all this; else it is what they mean without a word.
    pub is_said: bool,
    /// How far the lock reaches.
    pub lock: Reach,
    /// How long a request waits for others at most.
    pub lock_wait: Duration,
    /// How many fetches a gateway has under way.
    pub fills: Option<usize>,
    /// Whether the origin is spared rather than asked by those who waited in vain.
    pub protects: bool,
    /// How long what is stale answers while it is refreshed.
    pub while_revalidate: Duration,
    /// How long before its end what is fresh is refreshed.
    pub early: Duration,
    /// How long what is stale may stand in for an error.
    pub if_error: Duration,
    /// Whether writes purge softly.
    pub softly: bool,
    /// How long a 404 is stored.
    pub missing: Option<Duration>,
    /// Whether the gateways have a way back to themselves.
    pub background: bool,
    /// How long a call to the bridge may take.
    pub bridge_timeout: Duration,
    /// How long a write waits for its purge.
    pub purge_timeout: Duration,
    /// What gateways do by themselves, beside that.
    pub behind: Behind,
}

impl Default for Care {
    fn default() -> Self {
        Self::usual(true)
    }
}

impl Care {
    /// What rules mean that say nothing of it.
    pub fn usual(grouped: bool) -> Self {
        Self {
            is_said: false,
            lock: if grouped { Reach::Group } else { Reach::Gateway },
            lock_wait: Duration::from_secs(5),
            fills: None,
            protects: false,
            while_revalidate: Duration::ZERO,
            early: Duration::ZERO,
            if_error: Duration::from_secs(2),
            softly: false,
            missing: None,
            background: false,
            bridge_timeout: Duration::from_millis(50),
            purge_timeout: Duration::from_millis(250),
            behind: Behind::default(),
        }
    }

    /// What a run says of it. Whole seconds where rules know no less.
    pub fn draw(theme: Theme, grouped: bool, chance: &mut Chance) -> Self {
        let usual = Self::usual(grouped);
        let seconds = |chance: &mut Chance, of: &[u64]| Duration::from_secs(chance.of(of));
        match theme {
            Theme::Refreshing => Self {
                is_said: true,
                while_revalidate: seconds(chance, &[1, 2, 2]),
                early: seconds(chance, &[0, 0, 1]),
                softly: chance.percent(50),
                background: chance.percent(85),
                ..usual
            },
            Theme::Load => Self {
                is_said: true,
                lock: chance.of(&[Reach::Off, Reach::Worker, Reach::Gateway, Reach::Gateway, usual.lock, usual.lock]),
                fills: chance.of(&[None, None, Some(1), Some(2)]),
                protects: chance.percent(15),
                while_revalidate: seconds(chance, &[0, 0, 2]),
                missing: chance.of(&[None, Some(Duration::from_secs(1))]),
                background: chance.percent(50),
                ..usual
            },
            Theme::Behind => Self {
                is_said: true,
                lock: chance.of(&[Reach::Worker, Reach::Gateway, usual.lock, usual.lock]),
                fills: chance.of(&[None, None, Some(1), Some(2)]),
                while_revalidate: seconds(chance, &[0, 0, 1]),
                early: seconds(chance, &[0, 1, 1]),
                background: true,
                behind: Behind::draw(chance),
                ..usual
            },
            _ => usual,
        }
    }

    /// Says it in rules.
    pub fn say(&self, rules: &mut Value) {
        for route in rules["routes"].as_array_mut().into_iter().flatten() {
            if let Some(purge) = route.get_mut("purge").filter(|_| self.softly) {
                purge["soft"] = json!(true);
            }
            let Some(cache) = route.get_mut("cache") else { continue };
            cache["stale_if_error"] = said(self.if_error);
            if !self.is_said {
                continue;
            }
            cache["stale_while_revalidate"] = said(self.while_revalidate);
            cache["early"] = said(self.early);
            cache["lock"] = json!(format!("{:?}", self.lock).to_lowercase());
            cache["lock_wait"] = said(self.lock_wait);
            cache["protect_origin"] = json!(if self.protects { "on" } else { "off" });
            if let Some(missing) = self.missing {
                cache["ttl_by_status"] = json!({ "404": said(missing) });
            }
        }
        self.behind.say(rules);
        if let Some(fills) = self.fills {
            rules["limits"]["fills"] = json!(fills);
        }
        if self.is_said && !self.background {
            rules["background"] = json!("off");
        }
    }
}

impl fmt::Display for Care {
    /// What the rules say; nothing, if they don't.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_said {
            return Ok(());
        }
        let Self { lock, while_revalidate, early, .. } = self;
        write!(f, ", lock {lock:?}, {while_revalidate:?} stale, refreshed {early:?} before")?;
        let told = [(self.softly, "soft writes"), (self.protects, "protected"), (self.background, "background")];
        told.iter().filter(|(is, _)| *is).try_for_each(|(_, what)| write!(f, ", {what}"))?;
        self.fills.map_or(Ok(()), |fills| write!(f, ", {fills} fills"))?;
        self.missing.map_or(Ok(()), |missing| write!(f, ", 404 for {missing:?}"))?;
        write!(f, "{}", self.behind)
    }
}

fn said(time: Duration) -> Value {
    json!(format!("{}ms", time.as_millis()))
}
