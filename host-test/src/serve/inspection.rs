//! What a filter wants of its host, and whether it loads.

use std::fmt;

use crate::abi::AbiVersion;
use crate::filter::Filter;
use crate::trace::Log;

/// What is known of a filter that has been loaded and configured once.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The version of the ABI that it speaks.
    pub abi: AbiVersion,
    /// The functions that it imports, as `module.name`, each once and in order.
    pub imports: Vec<String>,
    /// Those of them that this host doesn't offer; they answer `Unimplemented`.
    pub unoffered: Vec<String>,
    /// Bytes of the configuration that it was given.
    pub configuration_bytes: usize,
    /// What it said, if it refused the configuration.
    pub refusal: Option<Vec<Log>>,
}

impl Inspection {
    pub(super) fn of(filter: &Filter, configuration: &[u8], refusal: Option<Vec<Log>>) -> Self {
        let mut imports: Vec<String> = filter.imports().collect();
        imports.sort();
        imports.dedup();
        let mut unoffered = filter.unoffered.clone();
        unoffered.sort();
        unoffered.dedup();
        Self { abi: filter.abi, imports, unoffered, configuration_bytes: configuration.len(), refusal }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { abi, imports, unoffered, configuration_bytes, refusal } = self;
        let abi = match abi {
            AbiVersion::V0_1_0 => "0.1.0",
            AbiVersion::V0_2_0 => "0.2.0",
            AbiVersion::V0_2_1 => "0.2.1",
        };
        writeln!(formatter, "it loads\nABI: {abi}\nimports: {}", imports.len())?;
        for import in imports {
            writeln!(formatter, "  {import}")?;
        }
        match unoffered.as_slice() {
            [] => writeln!(formatter, "not offered: none of them")?,
            some => {
                writeln!(formatter, "not offered: {} (they answer Unimplemented)", some.len())?;
                some.iter().try_for_each(|import| writeln!(formatter, "  {import}"))?;
            }
        }
        let which = match configuration_bytes {
            0 => "an empty configuration".to_owned(),
            bytes => format!("its configuration of {bytes} bytes"),
        };
        let Some(logs) = refusal else { return write!(formatter, "configuration: it accepts {which}") };
        write!(formatter, "configuration: it refuses {which}")?;
        for log in logs {
            write!(formatter, "\n  {:?}: {}", log.level, log.message)?;
        }
        Ok(())
    }
}
