//! Scenario files: declarative YAML cases that run on a [`World`](crate::World).
//!
//! A [`Suite`] is read from a file, with every mistake told at its place; each [`Case`] runs by itself and gives a
//! [`Verdict`]. A program adds words of its own through an [`Extension`].
//!
//! ```
//! use std::path::Path;
//! use proxy_wasm_host_test::scenario::{NoExtension, Suite};
//!
//! let file = r#"
//! filter: |
//!   (module
//!     (memory (export "memory") 1)
//!     (func (export "proxy_abi_version_0_2_1"))
//!     (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024)))
//! origin:
//!   - { get: "/users/{id}", after: 30ms, body: "user {id}, version {version}" }
//! cases:
//!   - name: a filter that does nothing lets everything pass
//!     steps:
//!       - { get: /users/7, expect: { status: 200, body: "user 7, version 1", took: 30ms } }
//!     expect: { origin: 1 }
//! "#;
//! let suite = Suite::read(Path::new("idle.test.yaml"), file, &NoExtension)?;
//! for case in &suite.cases {
//!     let verdict = case.run(case.seed());
//!     assert!(verdict.passed(), "{verdict}");
//! }
//! # Ok::<(), proxy_wasm_host_test::scenario::Mistakes>(())
//! ```

mod answers;
mod cache_status;
mod case;
mod expect;
mod matcher;
mod mistake;
mod pattern;
mod run;
mod steps;
mod subject;
mod template;
mod trouble;
mod verdict;
mod walk;
mod yaml;

pub use answers::Condition;
pub use case::{Case, Suite};
pub use matcher::Text;
pub use mistake::Mistakes;
pub use steps::Action;
pub use subject::{Extension, NoExtension, Subject};
pub use verdict::Verdict;
pub use walk::{At, Fields};

/// Every field of the language, by the kind of map that it stands in: for whoever documents it.
pub fn vocabulary() -> Vec<(&'static str, Vec<&'static str>)> {
    let methods: Vec<&str> = steps::METHODS.iter().map(|(field, _)| *field).collect();
    let kinds: [(&str, &[&[&str]]); 13] = [
        ("a file or a case", &[&["cases"], case::SHARED, case::OWN]),
        ("an answer of an upstream", &[&methods, answers::WHICH, answers::SAID]),
        ("a piece of body", &[answers::CHUNK]),
        ("a step", &[steps::TIMES, &methods, steps::REQUEST, steps::EVENTS]),
        ("an event", steps::OF_EVENTS),
        ("what is expected of an answer", &[expect::ANSWER]),
        ("what is expected of a forwarded request or a callout", &[expect::CALL]),
        ("what is expected at the end", &[expect::END]),
        ("what is expected of an upstream", &[expect::TRAFFIC, expect::LOG, expect::METRIC]),
        ("what is expected of shared data", &[expect::SHARED]),
        ("what is expected of a text", &[matcher::TEXT]),
        ("what is expected of an amount", &[matcher::RANGE]),
        ("what is expected of `Cache-Status`", &[cache_status::CACHE_STATUS]),
    ];
    kinds.into_iter().map(|(kind, words)| (kind, words.concat())).collect()
}
