//! What the filter gets: JSON text or a serialised protobuf `Struct`, and a policy or every mistake at once.

use prost::Message as _;
use prost_types::{ListValue, Struct, Value, value};
use routecache_config::load_json;
use routecache_core::condition::Glob;
use routecache_core::policy::{Action, DeltaSeconds, Policy, QuerySelection, Ttl};

const RULES: &str = r#"{
  "version": 1,
  "namespace": { "prefix": "shop", "version": "v3" },
  "ttl": { "short": "10s", "catalog": "6h" },
  "bridge": { "cluster": "routecache-bridge", "timeout": "20ms" },
  "limits": { "l0_bytes": "4MiB", "l1_bytes": 67108864, "body_bytes_max": "512KiB" },
  "consistency": { "window": "2s" },
  "purge": { "timeout": 1 },
  "routes": [
    { "name": "orders", "match": { "methods": ["GET"], "host": "API.example.com", "path": "/users/{user_id}/orders" },
      "cache": { "key": ["user", "{user_id}", "orders", "{query.page|default(1)}"],
                 "query": { "include": ["page", "size"] }, "ttl": "catalog", "tags": ["user:{user_id}"] } },
    { "name": "order-create", "match": { "path": "/users/{user_id}/orders" },
      "purge": { "tags": ["user:{user_id}"] } }
  ]
}"#;

fn unset(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> Policy {
    load_json(text.as_bytes(), &unset).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn mistakes(text: &str) -> String {
    load_json(text.as_bytes(), &unset).expect_err(text).to_string()
}

/// Rules with one cache rule, of which `cache` is given.
fn one_rule(path: &str, cache: &str) -> String {
    format!(r#"{{"routes": [{{"name": "r", "match": {{"path": "{path}"}}, "cache": {cache}}}]}}"#)
}

/// The same rules as Envoy serialises them.
fn as_struct(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => value::Kind::NullValue(0),
        serde_json::Value::Bool(value) => value::Kind::BoolValue(*value),
        serde_json::Value::Number(value) => value::Kind::NumberValue(value.as_f64().unwrap()),
        serde_json::Value::String(text) => value::Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            value::Kind::ListValue(ListValue { values: items.iter().map(as_struct).collect() })
        }
        serde_json::Value::Object(fields) => value::Kind::StructValue(Struct {
            fields: fields.iter().map(|(name, value)| (name.clone(), as_struct(value))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

fn serialised(json: &str) -> Vec<u8> {
    let Some(value::Kind::StructValue(fields)) = as_struct(&serde_json::from_str(json).unwrap()).kind else {
        panic!("not an object")
    };
    fields.encode_to_vec()
}

#[test]
fn rules_become_a_policy() {
    let policy = load(RULES);
    assert_eq!(policy.namespace.to_string(), "shop:v3");
    let bridge = policy.bridge.unwrap();
    assert_eq!((bridge.cluster.as_str(), bridge.timeout_ms), ("routecache-bridge", 20));
    assert_eq!(
        (policy.limits.l0_bytes, policy.limits.l1_bytes, policy.limits.body_bytes_max),
        (4 << 20, 64 << 20, 512 << 10)
    );
    assert_eq!((policy.window_ms, policy.purge_timeout_ms), (2000, 1000));
    let [orders, create] = policy.rules.as_slice() else { panic!("two rules") };
    assert_eq!((orders.name.as_str(), orders.host.as_deref()), ("orders", Some("api.example.com")));
    assert_eq!(orders.methods, ["GET"]);
    let Action::Cache(cache) = &orders.action else { panic!("a cache rule") };
    assert_eq!(cache.key.source(), "user:{user_id}:orders:{query.page|default(1)}");
    assert_eq!(cache.query, QuerySelection::Include(vec![Glob::new("page"), Glob::new("size")]));
    assert_eq!(cache.ttl, Ttl::Fixed(DeltaSeconds::saturating(6 * 3600)));
    assert_eq!(create.methods, ["POST", "PUT", "PATCH", "DELETE"]);
    let Action::Purge(purge) = &create.action else { panic!("a purge rule") };
    assert_eq!(purge.tags.iter().map(|tag| tag.source()).collect::<Vec<_>>(), ["user:{user_id}"]);
}

#[test]
fn what_is_not_said_has_a_default() {
    let policy = load(&one_rule("/files/{*path}", "{}"));
    assert_eq!(policy.namespace.to_string(), "svc:v1");
    assert_eq!(policy.bridge, None);
    assert_eq!((policy.window_ms, policy.purge_timeout_ms), (1000, 250));
    let rule = &policy.rules[0];
    assert_eq!(rule.methods, ["GET", "HEAD"]);
    let Action::Cache(cache) = &rule.action else { panic!("a cache rule") };
    assert_eq!(cache.key.source(), "/files/{path}");
    assert_eq!(cache.tags.iter().map(|tag| tag.source()).collect::<Vec<_>>(), ["/files/{path}"]);
    assert_eq!((&cache.ttl, &cache.query), (&Ttl::Fixed(DeltaSeconds::saturating(300)), &QuerySelection::All));
}

#[test]
fn a_struct_says_the_same_as_the_text() {
    let policy = load(RULES);
    assert_eq!(load_json(&serialised(RULES), &unset), Ok(policy.clone()));
    // JSON may begin with the byte that a Struct begins with.
    for before in ["\n", "\n\n\n\n\n\n\n\n\n\n\n\n", "\n ", "\n\t", " \r\n"] {
        assert_eq!(load(&format!("{before}{RULES}\n")), policy, "{before:?}");
    }
}

/// One long value makes the first length byte anything, among them JSON's white space and `{`.
#[test]
fn a_struct_is_told_from_json_whatever_its_lengths_are() {
    for name_length in 1..=64 {
        let json = format!(
            r#"{{"routes": [{{"name": "{}", "match": {{"path": "/"}}, "cache": {{}}}}]}}"#,
            "n".repeat(name_length)
        );
        assert_eq!(load_json(&serialised(&json), &unset), Ok(load(&json)), "{name_length}");
    }
}

#[test]
fn the_environment_wins() {
    let env = |name: &str| {
        let value = match name {
            "CACHE_PREFIX" => "env",
            "CACHE_VERSION" => "v9",
            "CACHE_TTL_DEFAULT" => "7",
            "CACHE_TTL_SHORT" => "2m",
            _ => return None,
        };
        Some(value.to_owned())
    };
    for (cache, seconds) in
        [("{}", 7), (r#"{"ttl": "short"}"#, 120), (r#"{"ttl": "long"}"#, 3600), (r#"{"ttl": 30}"#, 30)]
    {
        let policy = load_json(one_rule("/", cache).as_bytes(), &env).unwrap();
        assert_eq!(policy.namespace.to_string(), "env:v9");
        let Action::Cache(rule) = &policy.rules[0].action else { panic!("a cache rule") };
        assert_eq!(rule.ttl, Ttl::Fixed(DeltaSeconds::saturating(seconds)), "{cache}");
    }
}

#[test]
fn a_variable_that_cannot_be_read_is_a_mistake_that_names_it() {
    for (name, value, message) in [
        ("CACHE_TTL_SHORT", "5 min", "environment: `CACHE_TTL_SHORT=5 min` is not a duration"),
        ("CACHE_TTL_LONG", "", "environment: `CACHE_TTL_LONG=` is not a duration"),
        ("CACHE_TTL_DEFAULT", "500ms", "environment: `CACHE_TTL_DEFAULT=500ms` is not a whole number of seconds"),
        ("CACHE_PREFIX", "a:b", "environment: `CACHE_PREFIX=a:b` can't be a name"),
        ("CACHE_VERSION", "", "environment: `CACHE_VERSION=` can't be a name"),
    ] {
        let env = |asked: &str| (asked == name).then(|| value.to_owned());
        let mistakes = load_json(one_rule("/", "{}").as_bytes(), &env).unwrap_err().to_string();
        assert!(mistakes.starts_with(message), "{mistakes}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_path_and_mend() {
    let text = r#"{
        "ttl": { "short": "5 min" },
        "bridge": { "timeout": "0s" },
        "routes": [
          { "name": "menu", "match": { "path": "/menu/{day}" }, "cache": { "key": "menu", "ttl": "shrt" } },
          { "name": "menu", "match": { "path": "/menu" }, "purge": { "tags": ["menu:{day}"], "soft": 3 } }
        ]
    }"#;
    assert_eq!(
        mistakes(text),
        "\
ttl.short: `short: 5 min` is not a duration
    write the number and its unit together, such as `5m` or `300s`
bridge.timeout: `timeout: 0s` is out of range
    use at least `1ms` and at most `10s`
bridge: `cluster` is missing
    add it, such as `cluster: routecache-bridge`
routes[0].cache.ttl: rule `menu`: `ttl: shrt` is neither a bucket nor a duration
    did you mean `short`?
routes[0].cache.key: rule `menu`: the key `menu` leaves out `{day}`, so different paths would share one response
    add `{day}` to the key
routes[1].name: rule `menu`: `menu` is already the name of `routes[0]`
    give each rule a name of its own
routes[1].purge.tags[0]: rule `menu`: `{day}` is not a capture of the rule's path
    the path has no captures; use `query.<name>` or `host`
routes[1].purge.soft: rule `menu`: `soft: 3` is a number, not text
    write it like `soft: true`
8 mistakes"
    );
}

#[test]
fn broken_json_is_told_with_line_and_column() {
    for (text, message) in [
        ("{\n  \"routes\": [,]\n}", "rules:2:14: this is not JSON: expected value"),
        ("{\"routes\": [", "rules:1:12: this is not JSON: EOF while parsing a list"),
        ("\n\u{12}", "rules:2:1: this is not JSON: expected value"),
        ("{} {}", "rules:1:4: this is not JSON: trailing characters"),
    ] {
        let mistakes = mistakes(text);
        assert!(mistakes.starts_with(message), "{mistakes}");
    }
    for nothing in ["", " ", "\n"] {
        assert!(mistakes(nothing).starts_with("rules: there are no rules"), "{nothing:?}");
    }
    assert!(load_json(b"\xff\xfe", &unset).is_err());
}

#[test]
fn what_was_written_cannot_forge_lines_or_move_the_cursor() {
    for text in [
        r#"{"a\nb\u001b[2J": 1}"#,
        r#"{"routes": [{"name": "a\nb", "\r": 1}]}"#,
        r#"{"routes": [{"name": "r", "match": {"path": "/"}, "cache": {"key": "{\n\u001b}", "tags": ["!\n"]}}]}"#,
        r#"{"ttl": {"\n": "\n"}, "routes": [{"name": "r", "match": {"path": "/\n", "host": "\n*"}, "cache": {"ttl": "x\n"}}]}"#,
    ] {
        let mistakes = load_json(text.as_bytes(), &unset).unwrap_err();
        let message = mistakes.to_string();
        assert_eq!(message.lines().count(), 2 * mistakes.list.len() + 1, "{message}");
        assert!(!message.contains(|char: char| char.is_control() && char != '\n'), "{message:?}");
    }
}

/// C12: whatever a control plane hands over, the VM lives.
#[test]
fn no_bytes_make_it_panic() {
    let binary = serialised(RULES);
    for bytes in [RULES.as_bytes(), &binary] {
        for cut in 0..bytes.len() {
            let _ = load_json(&bytes[..cut], &unset);
            for byte in [0, 0x0A, 0x12, 0x22, 0x7B, 0x80, 0xFF] {
                let mut changed = bytes.to_vec();
                changed[cut] = byte;
                let _ = load_json(&changed, &unset);
            }
        }
    }
    for deep in ["[", "{\"a\":", "\n\u{12}"] {
        let _ = load_json(deep.repeat(100_000).as_bytes(), &unset);
    }
}

#[test]
fn ten_thousand_rules_load_quickly() {
    let rule = |index: usize| {
        format!(r#"{{"name": "r{index}", "match": {{"path": "/r{index}/{{id}}"}}, "cache": {{"tags": ["r:{{id}}"]}}}}"#)
    };
    let rules = (0..10_000).map(rule).collect::<Vec<_>>().join(",");
    assert_eq!(load(&format!(r#"{{"routes": [{rules}]}}"#)).rules.len(), 10_000);
}
