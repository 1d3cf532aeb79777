//! Mistakes that the simulation's tests plant, to show that they would be found. Without the feature `planted`, which no
//! release has, [`planted`] is `false` when the code is compiled, and nothing is left of them.

#[cfg(feature = "planted")]
static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Plants the mistake of this name, for good.
#[cfg(feature = "planted")]
pub fn plant(name: String) {
    let _ = PLANTED.set(name);
}

/// Whether the mistake of this name is planted.
#[cfg(feature = "planted")]
#[must_use]
pub fn planted(name: &str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == name)
}

/// Whether the mistake of this name is planted: none is.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline(always)]
pub const fn planted(_: &str) -> bool {
    false
}
