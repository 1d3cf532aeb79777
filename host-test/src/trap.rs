//! What is told of a trap: the cause, and where it happened.

use wasmtime::{Error, Trap, WasmBacktrace, WasmCoreDump};

/// Functions that are told, innermost first.
const FRAMES_MAX: usize = 16;

/// The cause in a line, and a line for each function that was running.
pub(crate) fn words(trap: &Error, fuel_max: u64) -> String {
    let cause = match trap.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) if fuel_max == 0 => return "has no fuel, as the test wants it".to_owned(),
        Some(Trap::OutOfFuel) => {
            return format!("used up its fuel of {fuel_max}; is this an endless loop?{}", frames(trap));
        }
        Some(kind) => kind.to_string(),
        None => trap.root_cause().to_string(),
    };
    format!("trapped: {}{}", cause.trim_start_matches("wasm trap: "), frames(trap))
}

/// As wasmtime shows them, with names demangled.
fn frames(trap: &Error) -> String {
    let shown = match (trap.downcast_ref::<WasmCoreDump>(), trap.downcast_ref::<WasmBacktrace>()) {
        (Some(dump), _) => dump.to_string(),
        (None, Some(backtrace)) => backtrace.to_string(),
        (None, None) => return String::new(),
    };
    let Some((_, frames)) = shown.split_once("wasm backtrace:\n") else { return String::new() };
    let lines = frames.lines().filter(|line| !line.trim_start().starts_with("note:"));
    lines.take(FRAMES_MAX).map(|line| format!("\n{}", line.replace("<unknown>!", ""))).collect()
}
