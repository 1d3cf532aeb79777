//! The filter as a resource of gateways that Kubernetes configures: Istio, Envoy Gateway, Higress. They hold routes, origins and listeners
//! themselves; what is written here is the filter and its rules, behind authentication and authorisation.

use std::fmt;

use serde_json::{Value, json};

use super::Address;
use super::emit::{block, indented, text};
use crate::variables;

/// A gateway on Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// A `WasmPlugin` of Istio.
    Istio,
    /// An `EnvoyExtensionPolicy` of Envoy Gateway.
    EnvoyGateway,
    /// A `WasmPlugin` of Higress.
    Higress,
}

/// What the rules don't say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginOptions {
    /// Where the gateway gets the filter: `oci://…`, `https://…`, or `file://…` where it can.
    pub wasm: String,
    /// The bridge's host and port, where the rules name one.
    pub bridge: Option<Address>,
    /// Variables of the VM.
    pub environment: Vec<(String, String)>,
}

/// What a gateway can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsayable {
    /// A filter's place that it can't fetch from; what it can.
    Wasm(&'static str),
    /// Variables with values.
    Environment,
}

impl fmt::Display for Unsayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wasm(places) => write!(f, "the gateway fetches the filter itself: write `--wasm` with {places}"),
            Self::Environment => {
                f.write_str("this gateway takes variables only from the proxy's own environment: leave out `--env`")
            }
        }
    }
}

impl std::error::Error for Unsayable {}

/// Writes the resource around checked rules ([`crate::Loaded::json`]).
///
/// # Errors
///
/// The options say what this gateway can't be told.
pub fn plugin(rules: &Value, target: Plugin, options: &PluginOptions) -> Result<String, Unsayable> {
    let rules = adapted(rules, target, options);
    Ok(match target {
        Plugin::Istio => wasm_plugin(ISTIO, "extensions.istio.io/v1alpha1", "pluginConfig", &rules, options)?,
        Plugin::Higress => wasm_plugin(HIGRESS, "extensions.higress.io/v1alpha1", "defaultConfig", &rules, options)?,
        Plugin::EnvoyGateway => extension_policy(&rules, options)?,
    })
}

const ISTIO: &str = "\
# Istio with routecache, written by `routecache render --target istio`. Namespace and labels are those of a default ingress gateway.
#
# What a WasmPlugin can't say:
# - Rules for POST need Envoy's `allow_on_headers_stop_iteration`; here such requests go to the origin.
# - Refreshing needs a cluster that leads back to the gateway's own listener, which takes an EnvoyFilter; `background` is off unless the
#   rules say otherwise.
# - The bridge must be a service that Istio knows (a Service or a ServiceEntry); `--bridge HOST:PORT` gives the rules its cluster's name.
";

const HIGRESS: &str = "\
# Higress with routecache, written by `routecache render --target higress`.
#
# What a WasmPlugin can't say:
# - Rules for POST need Envoy's `allow_on_headers_stop_iteration`; here such requests go to the origin.
# - Refreshing needs a cluster that leads back to the gateway's own listener, which takes an EnvoyFilter; `background` is off unless the
#   rules say otherwise.
# - The bridge must be a service that Higress knows; `--bridge HOST:PORT` gives the rules its cluster's name.
# - Keep to `defaultConfig`: `matchRules` would wrap the rules in something that the filter doesn't read.
";

const ENVOY_GATEWAY: &str = "\
# Envoy Gateway with routecache, written by `routecache render --target envoy-gateway`. The target is the Gateway of its quickstart.
#
# What an EnvoyExtensionPolicy can't say:
# - Clusters: that of the bridge, under the name that the rules give it, takes an EnvoyPatchPolicy.
# - Rules for POST need Envoy's `allow_on_headers_stop_iteration`; here such requests go to the origin.
# - Refreshing needs a cluster that leads back to the gateway's own listener; `background` is off unless the rules say otherwise.
# - Its place: Envoy Gateway runs Wasm behind authentication, and in front of a SecurityPolicy's `authorization`. With one, put it behind
#   with an EnvoyProxy's `filterOrder: [{ name: envoy.filters.http.wasm, after: envoy.filters.http.rbac }]`; else it refuses no hit.
";

/// The rules as they work there.
fn adapted(rules: &Value, target: Plugin, options: &PluginOptions) -> Value {
    let mut rules = rules.clone();
    if let Value::Object(fields) = &mut rules {
        fields.entry("background").or_insert_with(|| json!("off"));
        // Istio and its kin name clusters after services.
        if let (Some(bridge), Some(Value::Object(known)), true) =
            (&options.bridge, fields.get_mut("bridge"), target != Plugin::EnvoyGateway)
        {
            known.insert("cluster".to_owned(), json!(format!("outbound|{}||{}", bridge.port, bridge.host)));
        }
    }
    rules
}

fn wasm_plugin(
    head: &str,
    version: &str,
    config: &str,
    rules: &Value,
    options: &PluginOptions,
) -> Result<String, Unsayable> {
    let places = ["oci://", "https://", "http://", "file://"];
    if !places.iter().any(|place| options.wasm.starts_with(place)) {
        return Err(Unsayable::Wasm("`oci://…`, `https://…` or `file://…`"));
    }
    let (namespace, labels) = if config == "pluginConfig" {
        ("istio-system", "  selector:\n    matchLabels: { istio: ingressgateway }\n")
    } else {
        ("higress-system", "")
    };
    let mut env = Vec::new();
    for (name, value) in &options.environment {
        env.push(json!({ "name": name, "value": value }));
    }
    let mut inherited = variables(rules);
    inherited.retain(|name| !options.environment.iter().any(|(given, _)| given == name));
    env.extend(inherited.into_iter().map(|name| json!({ "name": name, "valueFrom": "HOST" })));
    Ok(format!(
        "{head}apiVersion: {version}\nkind: WasmPlugin\nmetadata:\n  name: routecache\n  namespace: {namespace}\nspec:\n{labels}  url: {}\n  \
         # Behind authentication and authorisation: whoever they refuse gets no hit.\n  phase: STATS\n  \
         # Without the filter, requests go to the origin.\n  failStrategy: FAIL_OPEN\n  vmConfig:\n    env:\n{}\n  {config}:\n{}\n",
        text(&options.wasm),
        indented(&block(&Value::Array(env)), 6),
        indented(&block(rules), 4),
    ))
}

fn extension_policy(rules: &Value, options: &PluginOptions) -> Result<String, Unsayable> {
    if !options.environment.is_empty() {
        return Err(Unsayable::Environment);
    }
    let code = match options.wasm.split_once("://") {
        Some(("oci", image)) => json!({ "type": "Image", "image": { "url": image } }),
        Some(("http" | "https", _)) => json!({ "type": "HTTP", "http": { "url": options.wasm } }),
        _ => return Err(Unsayable::Wasm("`oci://…` or `https://…`")),
    };
    let wasm = json!([{
        "name": "routecache",
        "rootID": "routecache",
        "code": code,
        "failOpen": true,
        "env": { "hostKeys": variables(rules) },
        "config": rules,
    }]);
    Ok(format!(
        "{ENVOY_GATEWAY}apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyExtensionPolicy\nmetadata:\n  name: routecache\nspec:\n  \
         targetRefs:\n    - {{ group: gateway.networking.k8s.io, kind: Gateway, name: eg }}\n  wasm:\n{}\n",
        indented(&block(&wasm), 4),
    ))
}
