//! A complete bootstrap for Envoy 1.40.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;

use super::Address;
use super::emit::{indented, item, json, quoted, text};
use crate::variables;

/// What the rules don't say about an Envoy.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvoyOptions {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The origin.
    pub upstream: Address,
    /// The bridge. None where the gateway defines the cluster that the rules name in another way; it isn't looked at
    /// where the rules name none.
    pub bridge: Option<Address>,
    /// Envoy's own interface for statistics and debugging. It can end the process, so keep it to loopback.
    pub admin: Option<SocketAddr>,
    /// The filter's file, as Envoy finds it.
    pub wasm: String,
    /// Variables of the VM, on top of those of Envoy's own environment that the rules language knows.
    pub environment: Vec<(String, String)>,
    /// HTTP filters in front of the cache: authentication, authorisation, rate limits.
    pub filters_before: Vec<Value>,
    /// Clusters that those filters need.
    pub clusters: Vec<Value>,
    /// One JSON line for each request on standard output.
    pub access_log: bool,
}

impl Default for EnvoyOptions {
    fn default() -> Self {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            listen: loopback(10000),
            upstream: loopback(8080).into(),
            bridge: Some(loopback(8390).into()),
            admin: Some(loopback(9901)),
            wasm: "routecache.wasm".to_owned(),
            environment: Vec::new(),
            filters_before: Vec::new(),
            clusters: Vec::new(),
            access_log: true,
        }
    }
}

/// Writes the bootstrap around checked rules ([`crate::Loaded::json`]).
#[must_use]
pub fn envoy(rules: &Value, options: &EnvoyOptions) -> String {
    let mut out = HEAD.to_owned();
    if let Some(admin) = options.admin {
        out += &format!("\nadmin:\n  address: {}\n", socket(&admin.into()));
    }
    out += "\nstatic_resources:\n  listeners:\n";
    out += &indented(&listener(rules, options), 4);
    out += "\n\n  clusters:\n";
    out += &indented(&clusters(rules, options).join("\n\n"), 4);
    out.push('\n');
    out
}

const HEAD: &str = "\
# Envoy 1.40 with routecache, written by `routecache render --target envoy`.
#
#   envoy --mode validate --config-path THIS_FILE
#   envoy --config-path THIS_FILE --concurrency 2
";

fn listener(rules: &Value, options: &EnvoyOptions) -> String {
    let address = socket(&options.listen.into());
    let access_log = if options.access_log { indented(ACCESS_LOG, 12) + "\n" } else { String::new() };
    let mut filters: Vec<String> = options.filters_before.iter().map(item).collect();
    filters.push(routecache(rules, options));
    filters.push(ROUTER.to_owned());
    let filters = indented(&filters.join("\n"), 14);
    let methods = if needs_custom_methods(rules) { indented(CUSTOM_METHODS, 12) + "\n" } else { String::new() };
    format!(
        "\
- name: ingress
  address: {address}
  filter_chains:
    - filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: ingress
            codec_type: AUTO

            # This Envoy faces clients: it sets X-Forwarded-For, and drops internal headers that they send.
            use_remote_address: true

            # One spelling for one resource, before any filter looks at the path: otherwise `/users/7`, `//users/7`
            # and `/x/../users/7` would be stored apart, and a purge of one would leave the others. (Where `%2F` is part
            # of ids, write KEEP_UNCHANGED for the last.)
            normalize_path: true
            merge_slashes: true
            path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT

            # The origin answers `Expect: 100-continue`, so that a write which it refuses is seen to be refused.
            proxy_100_continue: true
{methods}{access_log}
            http_filters:
              # Order matters. Whatever decides who may see a response (authentication, authorisation) stands before
              # routecache, or hits would be served past it; so does what must see every request, such as rate limits.
{filters}

            route_config:
              name: ingress
              virtual_hosts:
                - name: origin
                  domains: [\"*\"]
                  routes:
                    - match: {{ prefix: / }}
                      route: {{ cluster: origin, timeout: 15s }}"
    )
}

const CUSTOM_METHODS: &str = "
# Requests with methods that Envoy doesn't know reach the origin, and what they change is forgotten (RFC 9111 §4.4).
http_protocol_options: { allow_custom_methods: true }";

/// Whether a rule is about methods that Envoy would refuse: it names one, or it caches every path, and so stands for
/// whatever clients do there.
fn needs_custom_methods(rules: &Value) -> bool {
    /// What Envoy's HTTP/1 codec takes.
    const KNOWN: &[&str] = &[
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "DELETE",
        "GET",
        "HEAD",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "OPTIONS",
        "PATCH",
        "POST",
        "PROPFIND",
        "PROPPATCH",
        "PUT",
        "REBIND",
        "REPORT",
        "SEARCH",
        "TRACE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
    ];
    let routes = rules.get("routes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    routes.iter().any(|route| {
        let named = |pointer| route.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let unknown = |method: &Value| method.as_str().is_some_and(|method| !KNOWN.contains(&method));
        let path = route.pointer("/match/path").and_then(Value::as_str).unwrap_or_default();
        named("/match/methods").iter().any(unknown) || route.get("cache").is_some() && path.starts_with("/{*")
    })
}

/// What the cache did is in the response already; here it is for those who only have the log.
const ACCESS_LOG: &str = r#"
access_log:
  - name: envoy.access_loggers.stdout
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
      log_format:
        json_format:
          time: "%START_TIME%"
          method: "%REQ(:METHOD)%"
          authority: "%REQ(:AUTHORITY)%"
          path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
          status: "%RESPONSE_CODE%"
          details: "%RESPONSE_CODE_DETAILS%"
          flags: "%RESPONSE_FLAGS%"
          duration_ms: "%DURATION%"
          bytes_sent: "%BYTES_SENT%"
          # What became of a request of the filter's own (`background`); empty for those of clients.
          fetch: "%RESP(ROUTECACHE-FETCH)%"
          # Empty for a hit: the origin wasn't asked.
          upstream: "%UPSTREAM_HOST%"
          # RFC 9211: where a hit came from, or why a request was forwarded.
          cache_status: "%RESP(CACHE-STATUS)%""#;

const ROUTER: &str = r#"
- name: envoy.filters.http.router
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"#;

fn routecache(rules: &Value, options: &EnvoyOptions) -> String {
    let vm_id = text(&vm_id(rules, options));
    let wasm = text(&options.wasm);
    let environment = indented(&environment(rules, options), 8);
    let bodies = if reads_bodies(rules) { BODIES } else { "" };
    let rules = indented(&json(rules), 10);
    format!(
        "\
- name: routecache
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: routecache
      root_id: routecache
      # If the VM of a worker ever fails, a new one is made at the next request. FAIL_OPEN would let writes pass
      # without purging; FAIL_CLOSED would answer 503 until Envoy is restarted.
      failure_policy: FAIL_RELOAD{bodies}
      vm_config:
        # Filters of one vm_id share what they store. It holds the namespace, so a new `namespace.version` starts empty
        # and the memory of the old one is given back.
        vm_id: {vm_id}
        runtime: envoy.wasm.runtime.v8
        code:
          local:
            filename: {wasm}
{environment}
      # The rules, as `routecache check` found them good.
      configuration:
        \"@type\": type.googleapis.com/google.protobuf.StringValue
        value: |
{rules}"
    )
}

const BODIES: &str = "
      # Bodies come while their header waits: some rules answer requests or purge by them. Envoy 1.35 and later.
      allow_on_headers_stop_iteration: true";

/// Whether some rule answers a POST or purges what the body of a write's response names, or may: what `resources` become
/// isn't looked at.
fn reads_bodies(rules: &Value) -> bool {
    let purges = |rule: &Value| {
        let tags = rule.pointer("/purge/tags").and_then(Value::as_array);
        tags.is_some_and(|tags| tags.iter().any(|tag| tag.get("json").is_some()))
    };
    let posts = |rule: &Value| {
        let methods = rule.pointer("/match/methods").and_then(Value::as_array);
        rule.get("cache").is_some() && methods.is_some_and(|methods| methods.iter().any(|method| method == "POST"))
    };
    let routes = rules.get("routes").and_then(Value::as_array);
    rules.get("resources").is_some()
        || routes.is_some_and(|routes| routes.iter().any(|rule| posts(rule) || purges(rule)))
}

/// Changes with the namespace, and with nothing else.
fn vm_id(rules: &Value, options: &EnvoyOptions) -> String {
    let word = |variable: &str, field: &str, default: &str| {
        let given = options.environment.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str());
        let written = || rules.pointer(field).and_then(Value::as_str);
        given.or_else(written).unwrap_or(default).to_owned()
    };
    let prefix = word("CACHE_PREFIX", "/namespace/prefix", "svc");
    let version = word("CACHE_VERSION", "/namespace/version", "v1");
    format!("routecache.{prefix}.{version}")
}

/// A variable may be given here or come from Envoy's environment; Envoy refuses both at once.
fn environment(rules: &Value, options: &EnvoyOptions) -> String {
    let given = |variable: &str| options.environment.iter().any(|(name, _)| name == variable);
    let inherited: Vec<_> = variables(rules).into_iter().filter(|variable| !given(variable)).collect();
    let mut out = "environment_variables:\n".to_owned();
    if !inherited.is_empty() {
        out += "  # Taken from Envoy's own environment where they are set; they win over the rules.\n";
        out += &format!("  host_env_keys: [{}]\n", inherited.join(", "));
    }
    if !options.environment.is_empty() {
        out += "  key_values:\n";
        for (name, value) in &options.environment {
            out += &format!("    {}: {}\n", text(name), quoted(value));
        }
    }
    out
}

fn clusters(rules: &Value, options: &EnvoyOptions) -> Vec<String> {
    let mut clusters = vec![cluster("origin", &options.upstream, "connect_timeout: 1s")];
    if let Some(name) = rules.pointer("/bridge/cluster").and_then(Value::as_str) {
        match &options.bridge {
            Some(address) => clusters.push(cluster(name, address, BRIDGE)),
            None => clusters.push(format!("# `{name}`, the bridge's cluster, is defined elsewhere.")),
        }
    }
    clusters.extend(background(rules, options));
    clusters.extend(origins(rules, options));
    clusters.extend(options.clusters.iter().map(item));
    clusters
}

/// The clusters to which rules have fetches go straight, where nothing else defines them: the origin by other names.
fn origins(rules: &Value, options: &EnvoyOptions) -> Vec<String> {
    let routes = rules.get("routes").and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<&str> = routes.filter_map(|rule| rule.pointer("/cache/origin/cluster")?.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let known = |name: &str| name == "origin" || options.clusters.iter().any(|cluster| cluster["name"] == name);
    let names = names.into_iter().filter(|name| !known(name));
    names.map(|name| cluster(name, &options.upstream, ORIGIN)).collect()
}

const ORIGIN: &str = "\
# What routecache fetches by itself goes here, past the route above, which rewrites nothing (`origin` of the rules).
connect_timeout: 1s";

/// The way back to this very listener, for what the filter fetches by itself.
fn background(rules: &Value, options: &EnvoyOptions) -> Option<String> {
    let background = rules.get("background");
    let off = background.is_some_and(|value| matches!(value.as_str(), Some("off")) || value.as_bool() == Some(false));
    let name = background.and_then(|value| value.get("cluster")?.as_str()).unwrap_or("routecache-self");
    let mut own = options.listen;
    if own.ip().is_unspecified() {
        own.set_ip(if own.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    (!off).then(|| cluster(name, &own.into(), BACKGROUND))
}

const BACKGROUND: &str = "\
# Leads back to the listener above: what routecache refreshes by itself takes the way of any request, through all filters
# and routes. It bounds how much of that is under way by itself (`background.concurrency`).
connect_timeout: 0.25s";

const BRIDGE: &str = "\
# Requests wait for the bridge at most `bridge.timeout`, and go to the origin without it: better to fail soon.
connect_timeout: 0.25s
circuit_breakers:
  thresholds:
    # A slow bridge costs so many connections and no more; what is over counts as a miss.
    - { max_connections: 256, max_pending_requests: 256, max_requests: 1024, max_retries: 1 }
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http_protocol_options: {} }
    # The bridge closes a connection that was silent for 75 s; a call on one that is just closing would be lost.
    common_http_protocol_options: { idle_timeout: 60s }";

fn cluster(name: &str, address: &Address, settings: &str) -> String {
    let name = text(name);
    // Without a preference Envoy would take `::1` alone for a `localhost` that has both.
    let resolution =
        if address.is_ip() { "type: STATIC" } else { "type: STRICT_DNS\n  dns_lookup_family: V4_PREFERRED" };
    let socket = socket(address);
    let settings = indented(settings, 2);
    format!(
        "\
- name: {name}
  {resolution}
{settings}
  load_assignment:
    cluster_name: {name}
    endpoints:
      - lb_endpoints:
          - endpoint:
              address: {socket}"
    )
}

fn socket(address: &Address) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", text(&address.host), address.port)
}
