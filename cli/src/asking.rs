//! What the commands that ask a bridge have in common.

use clap::Args;
use serde_json::Value;

use crate::failure::Failure;
use crate::http::Server;
use crate::tls::Certificates;

/// Which bridge, and as whom.
#[derive(Args)]
pub struct Bridge {
    /// The bridge: `http://host:port`, `https://host:port` or `unix:/path`
    #[arg(long, env = "ROUTECACHE_BRIDGE", value_name = "URL", default_value = "http://127.0.0.1:8390")]
    bridge: Server,

    /// A token of the bridge; better in the environment, since everybody on the machine sees arguments
    #[arg(long, env = "ROUTECACHE_TOKEN", value_name = "SECRET", hide_env_values = true)]
    token: Option<String>,

    #[command(flatten)]
    certificates: Certificates,
}

impl Bridge {
    /// The first line of its answer, and what comes behind.
    ///
    /// # Errors
    ///
    /// When it can't be asked, or refuses.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<(Value, Vec<u8>), Failure> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let fields: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let client = self.bridge.client(&self.certificates)?;
        let answer = client.ask(method, path, &fields, body.as_bytes())?;
        let mut parts = answer.body.splitn(2, |byte| *byte == b'\n');
        let head: Value = serde_json::from_slice(parts.next().unwrap_or_default()).unwrap_or_default();
        if answer.field(bridge_api::MARKER).is_none() {
            return Err(Failure::Refused("what answers there is no bridge of routecache".to_owned()));
        }
        if answer.status != 200 {
            let told = head["message"].as_str().unwrap_or("it says no more");
            return Err(Failure::Refused(format!("the bridge refuses ({}): {told}", answer.status)));
        }
        Ok((head, parts.next().unwrap_or_default().to_vec()))
    }
}
