//! What Envoy is given. Envoy itself validates it in the end-to-end tests; here it must be YAML that says what it should.
#![cfg(all(feature = "files", feature = "render"))]

use routecache_config::render::{Address, EnvoyOptions, NoAddress, Plugin, PluginOptions, Unsayable, envoy, plugin};
use routecache_config::{VARIABLES, load_json, load_yaml};
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Value, json};

const RULES: &str = include_str!("../examples/users-and-orders.yaml");

fn unset(_: &str) -> Option<String> {
    None
}

fn rules() -> Value {
    load_yaml(RULES, "rules.yaml", &unset).unwrap().json
}

/// Parses what was rendered with another reader than our own.
fn as_json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Mapping(map) => {
            map.iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), as_json(value))).collect()
        }
        Yaml::Sequence(items) => items.iter().map(as_json).collect(),
        other => match (other.as_bool(), other.as_integer(), other.as_floating_point(), other.as_str()) {
            (Some(value), ..) => json!(value),
            (_, Some(value), ..) => json!(value),
            (_, _, Some(value), _) => json!(value),
            (_, _, _, Some(value)) => json!(value),
            _ => Value::Null,
        },
    }
}

fn rendered(options: &EnvoyOptions) -> Value {
    let text = envoy(&rules(), options);
    as_json(&Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))[0])
}

fn http_filters(bootstrap: &Value) -> &Vec<Value> {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    bootstrap.pointer(&format!("{manager}/http_filters")).and_then(Value::as_array).unwrap()
}

fn names(list: &[Value]) -> Vec<&str> {
    list.iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn the_filter_stands_behind_what_decides_who_may_see_a_response() {
    let filters_before =
        vec![json!({ "name": "auth", "typed_config": { "@type": "x/y.Z", "deny": ["a b", 1, true] } })];
    let bootstrap = rendered(&EnvoyOptions { filters_before: filters_before.clone(), ..EnvoyOptions::default() });
    assert_eq!(names(http_filters(&bootstrap)), ["auth", "routecache", "envoy.filters.http.router"]);
    assert_eq!(http_filters(&bootstrap)[0], filters_before[0]);
}

#[test]
fn the_filter_gets_the_rules_that_were_checked() {
    let bootstrap = rendered(&EnvoyOptions::default());
    let config = &http_filters(&bootstrap)[0]["typed_config"]["config"];
    let given = config["configuration"]["value"].as_str().unwrap();
    assert_eq!(load_json(given.as_bytes(), &unset), Ok(load_yaml(RULES, "rules.yaml", &unset).unwrap().policy));
    assert_eq!(config["vm_config"]["vm_id"], "routecache.demo.v1");
    assert_eq!(config["vm_config"]["code"]["local"]["filename"], "routecache.wasm");
}

/// What is secret stands in the gateway's environment, and only the names of its variables in what is rendered; each once.
#[test]
fn the_gateway_hands_on_the_variables_with_secrets() {
    let mut rules = rules();
    rules["bridge"]["token_env"] = json!("TOKEN");
    rules["bridge"]["seal"] = json!({ "env": ["SEAL", "SEAL_BEFORE", "TOKEN"] });
    let inherited: Vec<&str> = VARIABLES.into_iter().chain(["TOKEN", "SEAL", "SEAL_BEFORE"]).collect();
    let parsed = |text: &str| as_json(&Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))[0]);
    let bootstrap = parsed(&envoy(&rules, &EnvoyOptions::default()));
    let vm = &http_filters(&bootstrap)[0]["typed_config"]["config"]["vm_config"];
    assert_eq!(vm["environment_variables"]["host_env_keys"], json!(inherited));
    let wasm = "oci://registry.example.com/routecache:1".to_owned();
    let options = PluginOptions { wasm, bridge: None, environment: Vec::new() };
    for target in [Plugin::Istio, Plugin::Higress] {
        let resource = parsed(&plugin(&rules, target, &options).unwrap());
        let env = resource["spec"]["vmConfig"]["env"].as_array().unwrap();
        assert_eq!(names(env), inherited);
        assert!(env.iter().all(|variable| variable["valueFrom"] == "HOST"), "{env:?}");
    }
    let resource = parsed(&plugin(&rules, Plugin::EnvoyGateway, &options).unwrap());
    assert_eq!(resource["spec"]["wasm"][0]["env"]["hostKeys"], json!(inherited));
}

/// A name that the gateway doesn't know would end every refresh.
#[test]
fn the_clusters_of_origins_lead_to_the_origin() {
    let mut rules = rules();
    let origin = |cluster: &str| json!({ "cluster": cluster, "rewrites": "none" });
    for (rule, cluster) in ["orders", "origin", "shops"].into_iter().enumerate() {
        rules["routes"][rule]["cache"]["origin"] = origin(cluster);
    }
    rules["routes"][3]["cache"]["origin"] = origin("orders");
    let options = EnvoyOptions {
        upstream: "orders.example:8080".parse().unwrap(),
        clusters: vec![json!({ "name": "shops", "type": "STATIC" })],
        ..EnvoyOptions::default()
    };
    let text = envoy(&rules, &options);
    let bootstrap = as_json(&Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))[0]);
    let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
    let all = names(clusters);
    for name in ["origin", "orders", "shops"] {
        assert_eq!(all.iter().filter(|known| **known == name).count(), 1, "{name} in {all:?}");
    }
    let address = |name: &str| {
        let cluster = clusters.iter().find(|cluster| cluster["name"] == name).unwrap();
        cluster.pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address").unwrap()
    };
    assert_eq!(address("orders"), address("origin"));
}

/// Envoy refuses a variable that is both given and inherited.
#[test]
fn a_variable_is_given_or_inherited() {
    let environment = vec![("CACHE_PREFIX".to_owned(), "a \"b\"".to_owned()), ("LEVEL".to_owned(), "1".to_owned())];
    let bootstrap = rendered(&EnvoyOptions { environment, ..EnvoyOptions::default() });
    let vm = &http_filters(&bootstrap)[0]["typed_config"]["config"]["vm_config"];
    let inherited = ["CACHE_VERSION", "CACHE_TTL_SHORT", "CACHE_TTL_DEFAULT", "CACHE_TTL_LONG"];
    assert_eq!(vm["environment_variables"]["host_env_keys"], json!(inherited));
    assert_eq!(vm["environment_variables"]["key_values"], json!({ "CACHE_PREFIX": "a \"b\"", "LEVEL": "1" }));
}

#[test]
fn the_bridge_has_a_cluster_where_the_rules_name_one() {
    let clusters = |rules: &Value, options: &EnvoyOptions| {
        let text = envoy(rules, options);
        as_json(&Yaml::load_from_str(&text).unwrap()[0])["static_resources"]["clusters"].as_array().unwrap().clone()
    };
    let options = EnvoyOptions { bridge: Some("bridge.internal:8390".parse().unwrap()), ..EnvoyOptions::default() };
    let with = clusters(&rules(), &options);
    assert_eq!(names(&with), ["origin", "routecache-bridge", "routecache-self"]);
    let own = ["origin", "routecache-self"];
    assert_eq!((&with[0]["type"], &with[1]["type"]), (&json!("STATIC"), &json!("STRICT_DNS")));
    assert_eq!(names(&clusters(&rules(), &EnvoyOptions { bridge: None, ..options.clone() })), own);
    assert_eq!(names(&clusters(&json!({ "routes": [] }), &options)), own);
    let more = vec![json!({ "name": "auth" })];
    assert_eq!(
        names(&clusters(&rules(), &EnvoyOptions { clusters: more, ..options })),
        ["origin", "routecache-bridge", "routecache-self", "auth"]
    );
}

#[test]
fn a_cluster_leads_back_to_the_listener_unless_the_rules_fetch_nothing_by_themselves() {
    let own = |background: Value, listen: &str| {
        let options = EnvoyOptions { listen: listen.parse().unwrap(), ..EnvoyOptions::default() };
        let text = envoy(&json!({ "background": background, "routes": [] }), &options);
        let bootstrap = as_json(&Yaml::load_from_str(&text).unwrap()[0]);
        let cluster = bootstrap["static_resources"]["clusters"].as_array().unwrap().get(1)?.clone();
        let address =
            &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(format!("{} {}:{}", text(&cluster["name"]), text(&address["address"]), address["port_value"]))
    };
    let found = |text: &str| Some(text.to_owned());
    assert_eq!(own(json!({}), "127.0.0.1:10000"), found("routecache-self 127.0.0.1:10000"));
    assert_eq!(own(json!({ "cluster": "own" }), "0.0.0.0:80"), found("own 127.0.0.1:80"));
    assert_eq!(own(Value::Null, "[::]:80"), found("routecache-self ::1:80"));
    assert_eq!((own(json!("off"), "0.0.0.0:80"), own(json!(false), "0.0.0.0:80")), (None, None));
}

#[test]
fn admin_and_access_log_can_be_left_out() {
    let with = rendered(&EnvoyOptions::default());
    assert_eq!(with["admin"]["address"]["socket_address"]["port_value"], 9901);
    assert!(with.to_string().contains("%RESP(CACHE-STATUS)%"));
    let without = rendered(&EnvoyOptions { admin: None, access_log: false, ..EnvoyOptions::default() });
    assert_eq!(without.get("admin"), None);
    assert!(!without.to_string().contains("CACHE-STATUS"));
}

#[test]
fn addresses_are_host_and_port() {
    for text in ["127.0.0.1:80", "[::1]:80", "localhost:80", "orders.default.svc:8080"] {
        assert!(text.parse::<Address>().is_ok(), "{text}");
    }
    for text in ["", "localhost", "localhost:", ":80", "localhost:0", "localhost:65536", "http://localhost:80", "a b:1"]
    {
        assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
    }
}

/// The whole text, comments too: `UPDATE_GOLDEN=1` writes it.
#[test]
fn the_whole_reads_like_this() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render/users-and-orders.envoy.yaml");
    let text = envoy(&rules(), &EnvoyOptions::default());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
}

/// RFC 9111 §4.4: a method that nobody named may change something all the same.
#[test]
fn methods_that_envoy_does_not_know_pass_where_a_rule_is_about_them() {
    let manager = |route: Value| {
        let text = envoy(&json!({ "routes": [route] }), &EnvoyOptions::default());
        text.contains("allow_custom_methods: true")
    };
    assert!(manager(json!({ "match": { "path": "/{*path}" }, "cache": {} })));
    assert!(manager(json!({ "match": { "path": "/a", "methods": ["PUT", "UPDATE"] }, "purge": {} })));
    assert!(!manager(json!({ "match": { "path": "/a", "methods": ["PUT", "DELETE"] }, "purge": {} })));
    assert!(!manager(json!({ "match": { "path": "/files/{*path}" }, "cache": {} })));
}

/// The resource of a gateway on Kubernetes, and the rules in it.
fn resource(target: Plugin, wasm: &str) -> Value {
    let bridge = Some("bridge.shop.svc.cluster.local:8390".parse().unwrap());
    let mut environment = vec![("CACHE_PREFIX".to_owned(), "store".to_owned())];
    environment.retain(|_| target != Plugin::EnvoyGateway);
    let text = plugin(&rules(), target, &PluginOptions { wasm: wasm.to_owned(), bridge, environment }).unwrap();
    as_json(&Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))[0])
}

#[test]
fn istio_and_higress_get_a_wasm_plugin_behind_authorisation_with_the_rules_that_were_checked() {
    for (target, group, config) in [
        (Plugin::Istio, "extensions.istio.io", "pluginConfig"),
        (Plugin::Higress, "extensions.higress.io", "defaultConfig"),
    ] {
        let resource = resource(target, "oci://registry.example.com/routecache:1");
        assert_eq!(
            (&resource["kind"], &resource["apiVersion"]),
            (&json!("WasmPlugin"), &json!(format!("{group}/v1alpha1")))
        );
        let spec = &resource["spec"];
        assert_eq!((&spec["phase"], &spec["failStrategy"]), (&json!("STATS"), &json!("FAIL_OPEN")));
        assert_eq!(spec["url"], "oci://registry.example.com/routecache:1");
        assert_eq!(spec["vmConfig"]["env"][0], json!({ "name": "CACHE_PREFIX", "value": "store" }));
        assert_eq!(spec["vmConfig"]["env"][1], json!({ "name": "CACHE_VERSION", "valueFrom": "HOST" }));
        let policy = load_json(spec[config].to_string().as_bytes(), &unset).unwrap();
        let checked = load_yaml(RULES, "rules.yaml", &unset).unwrap().policy;
        assert_eq!(policy.rules, checked.rules);
        assert_eq!(policy.bridge.unwrap().cluster, "outbound|8390||bridge.shop.svc.cluster.local");
        assert_eq!(policy.background, None, "there is no cluster for it");
    }
}

#[test]
fn envoy_gateway_gets_an_extension_policy_and_fetches_images_and_files() {
    for (wasm, code) in [
        (
            "oci://registry.example.com/routecache:1",
            json!({ "type": "Image", "image": { "url": "registry.example.com/routecache:1" } }),
        ),
        (
            "https://files.example.com/r.wasm",
            json!({ "type": "HTTP", "http": { "url": "https://files.example.com/r.wasm" } }),
        ),
    ] {
        let resource = resource(Plugin::EnvoyGateway, wasm);
        assert_eq!(resource["kind"], "EnvoyExtensionPolicy");
        let plugin = &resource["spec"]["wasm"][0];
        assert_eq!((&plugin["code"], &plugin["failOpen"]), (&code, &json!(true)));
        let policy = load_json(plugin["config"].to_string().as_bytes(), &unset).unwrap();
        assert_eq!(policy.rules, load_yaml(RULES, "rules.yaml", &unset).unwrap().policy.rules);
        assert_eq!(policy.bridge.unwrap().cluster, "routecache-bridge", "as the rules name it");
    }
}

#[test]
fn what_the_gateway_cannot_be_told_is_refused() {
    let environment = vec![("CACHE_PREFIX".to_owned(), "store".to_owned())];
    let options = PluginOptions { wasm: "oci://r".to_owned(), bridge: None, environment };
    assert_eq!(plugin(&rules(), Plugin::EnvoyGateway, &options), Err(Unsayable::Environment));
    for (target, wasm) in
        [(Plugin::Istio, "routecache.wasm"), (Plugin::Higress, "/r.wasm"), (Plugin::EnvoyGateway, "file:///r.wasm")]
    {
        let options = PluginOptions { wasm: wasm.to_owned(), bridge: None, environment: Vec::new() };
        assert!(plugin(&rules(), target, &options).is_err(), "{wasm}");
    }
}
