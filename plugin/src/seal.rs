//! Sealing what the group keeps, and opening what it gives; what a seal is, is told in [`routecache_core::seal`].

use bridge_api::{StoreRequest, Ticket};
use routecache_core::policy::Seal;
use routecache_core::seal::{Made, Opened, Place, Seals, Secret, Unopened};

use crate::bridge;
use crate::host::{self, Level};
use crate::metrics;
use crate::root::Instance;

/// The secrets that the rules ask for; `env` looks up a variable of the VM's environment.
///
/// # Errors
///
/// One isn't there, or is none. What is there isn't told.
pub fn seals(seal: &Seal, env: impl Fn(&str) -> Option<String>) -> Result<Seals, String> {
    let mut secrets = Vec::new();
    for name in &seal.env {
        let Some(secret) = env(name).and_then(|text| Secret::from_hex(&text)) else {
            return Err([
                "`bridge.seal.env` names `",
                name,
                "`, and the VM's environment has no secret there: set it for the gateway to 32 bytes or more in hexadecimal (`openssl rand \
                 -hex 32`), and hand it on (Envoy: `vm_config.environment_variables.host_env_keys`)",
            ]
            .concat());
        };
        secrets.push(secret);
    }
    Ok(Seals::new(secrets, seal.accept_unsealed))
}

impl Instance {
    /// An entry as the group gets it.
    pub fn closed(&self, request: &StoreRequest, entry: Vec<u8>) -> Vec<u8> {
        if !self.seals.are_on() || entry.is_empty() {
            return entry;
        }
        let StoreRequest { namespace, key, tags, ticket, .. } = request;
        let made = Made { at: bridge::to_core(ticket.at), era: ticket.era.0, wall_ms: host::wall_ms() };
        self.seals.close(&Place { namespace, key, tags }, &made, entry)
    }

    /// What the group has for a key, if it is what a gateway of the group stored there in the era that it says.
    pub fn opened<'p>(&self, key: &str, tags: &[String], now: Ticket, payload: &'p [u8]) -> Option<Opened<'p>> {
        let place = Place { namespace: &self.namespace, key, tags };
        let why = match self.seals.open(&place, payload) {
            Ok(opened) if opened.made.is_none_or(|made| made.era == now.era.0) => return Some(opened),
            Ok(_) => Unopened::Broken,
            Err(why) => why,
        };
        let (counter, told) = match why {
            Unopened::Unsealed => ("routecache_seals_missing", "isn't sealed"),
            Unopened::UnknownSecret => {
                ("routecache_seals_unknown", "is sealed with a secret that this gateway doesn't have")
            }
            Unopened::Broken => ("routecache_seals_broken", "isn't what was sealed for its key"),
        };
        metrics::count(counter);
        if self.worker.borrow_mut().may_tell(counter, host::monotonic_ms()) {
            let text = ["routecache: an entry of the group ", told, "; it counts as a miss: ", key].concat();
            host::log(Level::Warn, &text);
        }
        None
    }
}
