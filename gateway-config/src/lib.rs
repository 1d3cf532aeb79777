//! Route rules: read, checked, explained, and rendered as gateway configuration.
//!
//! Whatever form rules come in, they are read into one tree, and one checker walks it and notes every mistake
//! with its place and mend ([`Mistakes`]); only a tree without mistakes becomes a [`Policy`].
//!
//! The filter uses [`load_json`] and nothing else. What people need on top sits behind features: `files` (YAML, lines and
//! carets) and `render` (gateway configuration).
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)] // rules are read inside the VM too, where a panic ends every stream of a worker (C12)
#![forbid(unsafe_code)]

mod check;
mod conditions;
#[cfg(all(feature = "files", feature = "render"))]
mod expand;
#[cfg(feature = "files")]
mod files;
mod host;
mod json;
#[cfg(feature = "files")]
pub mod lint;
mod lock;
mod method;
mod mistake;
mod naming;
mod origin;
#[cfg(feature = "files")]
mod pieces;
mod protobuf;
mod quantity;
mod recache;
#[cfg(feature = "files")]
pub mod reference;
#[cfg(feature = "render")]
pub mod render;
mod resources;
mod rule;
mod suggest;
mod terms;
mod tree;
mod ttl;
mod vocabulary;
mod walk;
mod warm;
#[cfg(feature = "files")]
mod yaml;

use routecache_core::policy::Policy;

#[cfg(feature = "files")]
pub use files::{Loaded, json_of, load_yaml};
pub use mistake::{Mistake, Mistakes, Wanted, What};
#[cfg(feature = "files")]
pub use pieces::values_in;
pub use tree::Span;

/// Looks up a variable of the VM's environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables that the rules language reads: each wins over what the rules say.
pub const VARIABLES: [&str; 5] =
    ["CACHE_PREFIX", "CACHE_VERSION", "CACHE_TTL_SHORT", "CACHE_TTL_DEFAULT", "CACHE_TTL_LONG"];

/// The variables that the filter reads under these rules ([`Loaded::json`]): [`VARIABLES`], and those with secrets.
#[cfg(feature = "render")]
#[must_use]
pub fn variables(rules: &serde_json::Value) -> Vec<&str> {
    let token = rules.pointer("/bridge/token_env");
    let seals = rules.pointer("/bridge/seal/env").and_then(serde_json::Value::as_array);
    let secrets = token.into_iter().chain(seals.into_iter().flatten()).filter_map(serde_json::Value::as_str);
    let mut all = VARIABLES.to_vec();
    for name in secrets {
        if !all.contains(&name) {
            all.push(name); // Envoy refuses one that is named twice
        }
    }
    all
}

/// Reads what a gateway hands to the filter as its configuration: JSON text, or a serialised `google.protobuf.Struct`.
///
/// # Errors
///
/// Every mistake in the rules and in the environment.
pub fn load_json(bytes: &[u8], env: Environment<'_>) -> Result<Policy, Mistakes> {
    if bytes.trim_ascii().is_empty() {
        return Err(Mistake::new("", None, What::Nothing).into());
    }
    let fields = if protobuf::looks_like_struct(bytes) { protobuf::decode(bytes) } else { None };
    let root = fields.map_or_else(|| json::parse(bytes), Ok)?;
    check::policy(&root, env).map_err(Mistakes::new)
}
