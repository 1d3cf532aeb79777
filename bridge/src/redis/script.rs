//! The scripts. Their text is fixed, and what users say comes in as arguments only.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs, cmd};

/// A Lua script that Redis knows by its hash.
pub(super) struct Script(redis::Script, &'static str);

macro_rules! script {
    ($(#[$doc:meta])* $name:ident = $($file:literal),+) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            const TEXT: &str = concat!($(include_str!($file)),+);
            Script(redis::Script::new(TEXT), TEXT)
        });
    };
}

script!(LOOKUP = "ids.lua", "clock.lua", "log.lua", "lookup.lua");
script!(STORE = "ids.lua", "clock.lua", "log.lua", "settle.lua", "put.lua", "store.lua");
script!(SETTLED = "ids.lua", "clock.lua", "log.lua", "settle.lua", "settled.lua");
script!(STORED = "ids.lua", "put.lua", "stored.lua");
script!(PURGE = "ids.lua", "clock.lua", "log.lua", "purge.lua");
script!(FEED = "ids.lua", "clock.lua", "log.lua", "listeners.lua", "feed.lua");
script!(UNHEARD = "ids.lua", "clock.lua", "listeners.lua", "unheard.lua");
script!(SOFTENED = "ids.lua", "clock.lua", "log.lua", "softened.lua");
script!(GET = "lease.lua", "get.lua");
script!(GRANT = "lease.lua", "grant.lua");
script!(RELEASE = "release.lua");
script!(LOOK = "lease.lua", "look.lua");
script!(TAIL = "tail.lua");
script!(KEY = "key.lua");
script!(POP = "pop.lua");
script!(BANS = "ids.lua", "bans.lua");

impl Script {
    /// All of them, for a server that has none yet.
    pub(super) fn all() -> [&'static Self; 16] {
        [
            &LOOKUP, &STORE, &SETTLED, &STORED, &PURGE, &FEED, &UNHEARD, &SOFTENED, &GET, &GRANT, &RELEASE, &LOOK,
            &TAIL, &BANS, &KEY, &POP,
        ]
    }

    /// Makes the server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.1);
        load
    }

    /// Runs it on keys of one slot.
    pub(super) fn call(&self, keys: &[String], arguments: impl ToRedisArgs) -> Cmd {
        let bytes = keys.iter().map(String::len).sum::<usize>();
        let mut call = Cmd::with_capacity(keys.len() + 12, bytes + 256);
        call.arg("EVALSHA").arg(self.0.get_hash()).arg(keys.len()).arg(keys).arg(arguments);
        call
    }
}

/// A command about one key.
pub(super) fn command(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}
