//! What the end-to-end tests share with programs of their own: the simulation, and the soak.

#[path = "../simulation/mod.rs"]
pub mod simulation;
#[path = "../soak/mod.rs"]
pub mod soak;
