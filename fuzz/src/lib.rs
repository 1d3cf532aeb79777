//! Every decoder, as a target for fuzzing: none may panic, hang, or take more memory than its input excuses, whatever the bytes.
//!
//! `cargo xtask fuzz` lets libFuzzer look for inputs, guided by coverage; `tests/bounded.rs` asks each target some thousand
//! changed seeds in CI. A target also asserts what must hold of what it has read.

mod bridge;
mod core;
mod rules;

/// A decoder, and inputs to begin with.
pub struct Target {
    /// As it is asked for.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// Sound inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
#[must_use]
pub fn targets() -> Vec<Target> {
    [bridge::TARGETS, core::TARGETS, rules::TARGETS]
        .into_iter()
        .flat_map(<[Target]>::iter)
        .map(Target::copied)
        .collect()
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, run, seeds }
    }

    fn copied(&self) -> Self {
        Self { ..*self }
    }
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
