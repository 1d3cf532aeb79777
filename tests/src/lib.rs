//! What the end-to-end tests share with programs of their own: the simulation.

#[path = "../simulation/mod.rs"]
pub mod simulation;
