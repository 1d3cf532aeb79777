//! The key space of applications: beside the entries, and never able to leave its namespace.
//!
//! A name is `routecache:<namespace>:key:{<hash>}:<text>`: the hash chooses the slot, and the text, which is the user's,
//! comes behind it, where braces mean nothing.

use bytes::Bytes;
use redis::{Pipeline, cmd};
use xxhash_rust::xxh3::xxh3_64;

use super::target::Node;
use super::{RedisStore, is_full, script};
use crate::people::{Deleted, KeyCall, KeyReply};
use crate::{KeyOf, StoreError};

/// Names that one deletion by pattern looks at.
const SCANNED_MAX: u64 = 100_000;

/// How many a scan looks at in one step.
const STEP: u64 = 1_000;

impl RedisStore {
    pub(super) async fn call_key(&self, of: &KeyOf, call: &KeyCall) -> Result<KeyReply, StoreError> {
        let (name, once) = names(of);
        // Only the client of a cluster sends a command again by itself.
        let number = if self.connection.is_cluster() { format!("{:x}", self.random.next()) } else { String::new() };
        let run = async |call: &str, value: &[u8], ttl_ms: u64| {
            let mut one = Pipeline::new();
            one.add_command(script::KEY.call(&[name.clone(), once.clone()], (&number, call, value, ttl_ms)));
            let ((came, sum),): ((String, String),) = self.connection.ask(&one).await?;
            match (&*came, sum.parse()) {
                ("done", _) => Ok(KeyReply::Done),
                ("present", _) => Ok(KeyReply::Present),
                ("absent", _) => Ok(KeyReply::Absent),
                ("no-number", _) => Ok(KeyReply::NoNumber),
                ("number", Ok(sum)) => Ok(KeyReply::Number(sum)),
                _ => Err(self.nonsense("an outcome that the script doesn't give")),
            }
        };
        let outcome = match call {
            KeyCall::Get => {
                let mut get = Pipeline::new();
                get.add_command(script::GET.call(&[name.clone(), once.clone()], &["", ""]));
                let ((value, left_ms, _),): (super::RawEntry,) = self.connection.ask(&get).await?;
                Ok(found(value, left_ms))
            }
            KeyCall::Set { value, ttl_ms } => {
                let mut set = Pipeline::new();
                set.add_command(cmd("SET")).arg(&name).arg(&value[..]).arg("PX").arg(ttl_ms);
                self.connection.ask::<(String,)>(&set).await.map(|_| KeyReply::Done)
            }
            KeyCall::Add { value, ttl_ms } => run("add", value, *ttl_ms).await,
            KeyCall::Delete => run("delete", b"", 0).await,
            KeyCall::Increment { by, ttl_ms } => run("increment", by.to_string().as_bytes(), *ttl_ms).await,
            KeyCall::Pop => {
                let mut pop = Pipeline::new();
                pop.add_command(script::POP.call(&[name.clone(), once.clone()], &[&number]));
                let ((value, left_ms),): ((Option<Bytes>, i64),) = self.connection.ask(&pop).await?;
                Ok(found(value, left_ms))
            }
        };
        match outcome {
            Err(StoreError::Redis { source, .. }) if is_full(&source) => Ok(KeyReply::Full),
            outcome => outcome,
        }
    }

    pub(super) async fn delete_by(&self, namespace: &str, glob: &str) -> Result<Deleted, StoreError> {
        let prefix = format!("routecache:{namespace}:key:");
        let (names, complete) = self.scan(&prefix, SCANNED_MAX).await?;
        let text = |name: &String| {
            name.get(prefix.len()..).and_then(|rest| rest.split_once("}:")).map(|(_, text)| text.to_owned())
        };
        let meant = names.iter().filter(|name| text(name).is_some_and(|text| bridge_api::looks_like(&text, glob)));
        let mut deleted = 0;
        let meant: Vec<&String> = meant.collect();
        for some in meant.chunks(256) {
            let mut unlink = Pipeline::new();
            for name in some {
                unlink.add_command(cmd("UNLINK")).arg(name);
            }
            let gone: Vec<u64> = self.connection.ask(&unlink).await?;
            deleted += gone.iter().sum::<u64>();
        }
        Ok(Deleted { deleted, complete })
    }

    /// Names that begin so, and whether those are all. Looks at a bounded number, a few at a time.
    pub(super) async fn scan(&self, prefix: &str, looked_at_max: u64) -> Result<(Vec<String>, bool), StoreError> {
        let glob = format!("{prefix}*"); // a namespace holds nothing that means more in a glob
        let mut names = Vec::new();
        let mut at: Vec<(Node, Option<u64>)> =
            self.connection.masters().await?.into_iter().map(|node| (node, Some(0))).collect();
        let mut looked_at = 0;
        while looked_at < looked_at_max && at.iter().any(|(_, cursor)| cursor.is_some()) {
            looked_at += STEP;
            for (node, cursor) in &mut at {
                let Some(from) = *cursor else { continue };
                let mut scan = Pipeline::new();
                scan.add_command(cmd("SCAN")).arg(from).arg("MATCH").arg(&glob).arg("COUNT").arg(STEP);
                let ((next, found),): ((u64, Vec<String>),) = self.connection.ask_at(node, &scan).await?;
                names.extend(found);
                *cursor = (next != 0).then_some(next);
            }
        }
        let complete = at.iter().all(|(_, cursor)| cursor.is_none());
        names.sort();
        names.dedup(); // a scan may tell a name twice
        Ok((names, complete))
    }
}

fn found(value: Option<Bytes>, left_ms: i64) -> KeyReply {
    value.map_or(KeyReply::Absent, |value| KeyReply::Value(value, u64::try_from(left_ms).unwrap_or(0)))
}

fn names(of: &KeyOf) -> (String, String) {
    let KeyOf { namespace, key } = of;
    let hash = xxh3_64(key.as_bytes());
    (
        format!("routecache:{namespace}:key:{{{hash:016x}}}:{key}"),
        format!("routecache:{namespace}:once:{{{hash:016x}}}"),
    )
}
