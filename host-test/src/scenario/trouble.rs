//! What goes wrong in a case by itself: drawn by its seed, listed, or as a replay file says.

use super::walk::{Fields, every};
use crate::simulation::{Replay, smallest};
use crate::{Faults, Injected};

/// Which faults a case has.
#[derive(Clone, Debug, Default)]
pub(super) enum Trouble {
    #[default]
    None,
    /// Drawn by the seed of the run.
    Drawn,
    /// The same, also from what goes wrong in no Envoy.
    Harsh,
    Listed(Vec<Injected>),
}

impl Trouble {
    /// `faults`, or the faults of a `replay`, whose seed comes with them.
    pub(super) fn read(case: &Fields<'_>) -> Option<(Self, Option<u64>)> {
        match (case.get("faults"), case.get("replay")) {
            (None, None) => Some((Self::None, None)),
            (Some(_), Some(replay)) => {
                replay.wrong_name("faults are given twice", "keep `faults` or `replay`");
                None
            }
            (Some(faults), None) if faults.is_list() => {
                let mut listed = Vec::new();
                every(faults.items()?, |item| {
                    let fault = Injected::parse(item.text()?);
                    if fault.is_none() {
                        let mend = "write place, number and fault, such as `callout 0: slow 300`; host-test's README lists them";
                        item.wrong("there is no such fault", mend);
                    }
                    listed.push(fault?);
                    Some(())
                })?;
                Some((Self::Listed(listed), None))
            }
            (Some(faults), None) => Some((faults.one_of(&[("drawn", 0), ("harsh", 1)]).map(Self::of_word)?, None)),
            (None, Some(at)) => {
                let text = String::from_utf8_lossy(&at.file()?).into_owned();
                match Replay::from_yaml(&text) {
                    Ok(Replay { seed, faults, .. }) => Some((Self::Listed(faults), Some(seed))),
                    Err(error) => {
                        at.wrong(error, "name a file that `Replay::to_yaml` or a failed case wrote");
                        None
                    }
                }
            }
        }
    }

    fn of_word(word: u8) -> Self {
        if word == 0 { Self::Drawn } else { Self::Harsh }
    }

    /// What goes wrong in a run with this seed.
    pub(super) fn faults(&self, seed: u64) -> Option<Faults> {
        match self {
            Self::None => None,
            Self::Drawn => Some(Faults::from_seed(seed)),
            Self::Harsh => Some(Faults::harsh_from_seed(seed)),
            Self::Listed(list) => Some(Faults::listed(list.clone())),
        }
    }

    /// Whether the seed decides.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(self, Self::Drawn | Self::Harsh)
    }
}

/// As few of these faults as it takes to fail.
pub(super) fn fewest(faults: Vec<Injected>, mut fails: impl FnMut(&[Injected]) -> bool) -> Vec<Injected> {
    if fails(&faults) { smallest(faults, fails) } else { faults }
}
