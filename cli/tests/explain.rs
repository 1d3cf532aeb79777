//! What `routecache explain` says is what the shipped filter does, request by request: the same request goes to the filter on a
//! simulated gateway, and what it asks of its bridge, tells in `Cache-Status` and does with the second request is compared.

mod support;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{FEED, FeedRequest, LOOKUP, LookupRequest, MARKER, PURGE, PurgeRequest, RELEASE, STORE, StoreRequest};
use bridge_api::{VERSION, decode, encode};
use proxy_wasm_host_test::{Call, Reply, Request, Response, World};
use routecache_bridge::mem::Memory;
use serde_json::Value;
use support::filter;

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain/rules.yaml")
}

/// A request and its response, in the words of the command line.
#[derive(Clone, Debug, Default)]
struct Case {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    properties: Vec<(String, String)>,
    status: u16,
    response: Vec<(String, String)>,
    answer: Option<String>,
}

fn case(method: &str, target: &str) -> Case {
    let (host, target) = ("shop.example.com".to_owned(), target.to_owned());
    Case { method: method.to_owned(), host, target, status: 200, ..Case::default() }
}

impl Case {
    fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(self, body: &str) -> Self {
        Self { body: Some(body.to_owned()), ..self }
    }

    fn known(mut self, path: &str, value: &str) -> Self {
        self.properties.push((path.to_owned(), value.to_owned()));
        self
    }

    fn answer(self, body: &str) -> Self {
        Self { answer: Some(body.to_owned()), ..self }
    }

    fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn answers(mut self, name: &str, value: &str) -> Self {
        self.response.push((name.to_owned(), value.to_owned()));
        self
    }

    fn request(&self) -> Request {
        let request = Request::new(&self.method, &self.target).host(&self.host);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        match &self.body {
            Some(body) => request.header("content-length", body.len().to_string()).body(body),
            None => request,
        }
    }

    /// What the command says of it.
    fn explained(&self) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
        command.args(["explain", "--format", "json"]).arg(rules());
        command.args([&self.method, &format!("http://{}{}", self.host, self.target)]);
        self.headers.iter().for_each(|(name, value)| {
            command.args(["-H", &format!("{name}: {value}")]);
        });
        self.body.iter().for_each(|body| {
            command.args(["--body", body]);
        });
        self.properties.iter().for_each(|(path, value)| {
            command.args(["--property", &format!("{path}={value}")]);
        });
        self.answer.iter().for_each(|body| {
            command.args(["--response-body", body]);
        });
        command.args(["--response", &self.status.to_string()]);
        self.response.iter().for_each(|(name, value)| {
            command.args(["--response-header", &format!("{name}: {value}")]);
        });
        let output = command.output().unwrap();
        assert!(output.status.success(), "{self:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// What the filter asked of its bridge.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Calls>>);

#[derive(Default)]
struct Calls {
    lookups: Vec<LookupRequest>,
    stores: Vec<StoreRequest>,
    purges: Vec<PurgeRequest>,
}

impl Seen {
    fn answer(&self, memory: &RefCell<Memory>, call: &Call) -> Reply {
        let now_ms = u64::try_from(call.at.as_millis()).unwrap() + 1_000_000;
        let (mut memory, mut calls) = (memory.borrow_mut(), self.0.borrow_mut());
        let body = match call.path() {
            LOOKUP => {
                let (request, _) = decode(&call.body).unwrap();
                let (reply, payload) = memory.lookup(&request, now_ms);
                calls.lookups.push(request);
                encode(&reply, &payload)
            }
            STORE => {
                let (request, payload) = decode(&call.body).unwrap();
                let reply = memory.store(&request, payload.to_vec().into(), now_ms);
                calls.stores.push(request);
                encode(&reply, b"")
            }
            PURGE => {
                let (request, _) = decode(&call.body).unwrap();
                let reply = memory.purge(&request, now_ms);
                calls.purges.push(request);
                encode(&reply, b"")
            }
            RELEASE => {
                let (request, _) = decode(&call.body).unwrap();
                encode(&memory.release(&request, now_ms), b"")
            }
            FEED => {
                let (request, _): (FeedRequest, _) = decode(&call.body).unwrap();
                let reply = memory.poll(&request, now_ms, now_ms + request.hold_ms).unwrap();
                let response = Response::ok(encode(&reply, b"")).header(MARKER, VERSION);
                return Reply::from(response).after(Duration::from_millis(request.hold_ms)).background();
            }
            other => panic!("the filter calls {other}"),
        };
        Reply::from(Response::ok(body).header(MARKER, VERSION)).after(Duration::from_millis(1))
    }
}

/// A gateway whose origin answers what the case says.
fn gateway(case: &Case) -> (World, Seen) {
    let (seen, memory) = (Seen::default(), RefCell::new(Memory::new(64 << 20, 1)));
    let (calls, origin) = (seen.clone(), case.clone());
    let json = Command::new(env!("CARGO_BIN_EXE_routecache"))
        .args(["explain", "--expand", "--format", "json"])
        .arg(rules())
        .output()
        .unwrap();
    let builder = case.properties.iter().fold(World::builder(), |builder, (path, value)| builder.property(path, value));
    let mut world = builder
        .filter(filter())
        .body_callbacks_while_headers_paused(true)
        .configuration(json.stdout)
        .origin(move |call: &Call| {
            if call.method() != origin.method {
                return Response::ok("written"); // one of the writes that follow
            }
            let no_body = call.method() == "HEAD" || matches!(origin.status, 204 | 304);
            let response = Response::new(origin.status).body(if no_body {
                ""
            } else {
                origin.answer.as_deref().unwrap_or("body")
            });
            origin.response.iter().fold(response, |response, (name, value)| response.header(name, value))
        })
        .callout("routecache-bridge", move |call| calls.answer(&memory, call))
        .workers(1)
        .build()
        .unwrap();
    // The feed is heard.
    world.run_for(Duration::from_millis(600));
    (world, seen)
}

fn strings(value: &Value) -> Vec<String> {
    let mut strings: Vec<_> = value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect();
    strings.sort();
    strings.dedup();
    strings
}

fn sorted(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags.dedup();
    tags
}

/// The number behind `ttl=`.
fn ttl_in(status: &str) -> Option<i64> {
    status.split("; ").find_map(|part| part.strip_prefix("ttl=")?.parse().ok())
}

fn compare(case: &Case) {
    let told = case.explained();
    let (mut world, seen) = gateway(case);
    let answer = world.fetch(case.request());
    let status = answer.header("cache-status").unwrap_or("none").to_owned();
    let context = format!("{case:?}\n{status}\n{told:#}");
    let calls = |read: &dyn Fn(&Calls) -> usize| read(&seen.0.borrow());
    match told["outcome"].as_str().unwrap() {
        "ignored" => {
            assert_eq!(status, "none", "{context}");
            assert_eq!(calls(&|calls| calls.lookups.len() + calls.purges.len()), 0, "{context}");
        }
        "bypass" => {
            let word = told["bypass"]["word"].as_str().unwrap();
            assert_eq!(status, format!("routecache; fwd=bypass; detail={word}"), "{context}");
            assert_eq!(calls(&|calls| calls.lookups.len() + calls.stores.len()), 0, "{context}");
        }
        "write" => {
            let calls = seen.0.borrow();
            let purged: Vec<_> = calls.purges.iter().flat_map(|purge| purge.tags.clone()).collect();
            assert_eq!(sorted(&purged), strings(&told["purges"]), "{context}");
            let is_purged = status == "routecache; fwd=method; detail=purged";
            assert_eq!(is_purged, !purged.is_empty(), "{context}");
        }
        "read" => read(case, &told, &mut world, &seen, &status, &context),
        other => panic!("{other}: {context}"),
    }
}

fn read(case: &Case, told: &Value, world: &mut World, seen: &Seen, status: &str, context: &str) {
    world.run_for(Duration::from_millis(50));
    {
        let calls = seen.0.borrow();
        let [lookup] = calls.lookups.as_slice() else { panic!("{} lookups: {context}", calls.lookups.len()) };
        assert_eq!(lookup.key, told["key"].as_str().unwrap(), "{context}");
        assert_eq!(
            format!(" {} ", told["rule"].as_str().unwrap()),
            lookup.key[lookup.key.find(' ').unwrap()..][..told["rule"].as_str().unwrap().len() + 2],
            "{context}"
        );
        let named = strings(&told["response"]["tags"]);
        let all = strings(&told["tags"]);
        let of_request: Vec<_> = all.iter().filter(|tag| !named.contains(tag)).cloned().collect();
        assert_eq!(sorted(&lookup.tags), of_request, "{context}");
        let stored = told["response"]["stored"] == true;
        // Where the body decides, the header can't tell.
        if !status.ends_with("detail=body-decides") {
            assert_eq!(status.split("; ").any(|part| part == "stored"), stored, "{context}");
            if let (Some(word), true) = (told["response"]["why_not"]["word"].as_str(), case.method != "HEAD") {
                assert!(status.ends_with(&format!("detail={word}")), "{context}");
            }
        }
        if stored {
            let store = calls.stores.iter().find(|store| store.key.starts_with(&lookup.key)).expect(context);
            assert_eq!(sorted(&store.tags), all, "{context}");
        } else {
            assert!(calls.stores.is_empty(), "{context}");
            return;
        }
    }
    // The same again comes from the cache, if it may, for as long as was told.
    let again = world.fetch(case.request());
    let status = again.header("cache-status").unwrap_or("none");
    let seconds = told["response"]["ttl"]["seconds"].as_i64().unwrap();
    if status.contains("; hit;") {
        let left = ttl_in(status).expect(context);
        assert!((seconds - 1..=seconds).contains(&left), "{status} {context}");
    } else {
        let only_with_validator = seconds == 0 || case.response.iter().any(|(_, value)| value.contains("no-cache"));
        let asked = case.headers.iter().any(|(name, _)| name == "cache-control" || name == "authorization");
        assert!(only_with_validator || asked, "{status} {context}");
    }
    // Each write that purges it does.
    for write in told["purged_by"].as_array().unwrap().iter().filter(|write| write.get("only_if").is_none()) {
        let (method, path) =
            (write["methods"][0].as_str().unwrap(), write["path"].as_str().unwrap().replace(['{', '}', '*'], ""));
        seen.0.borrow_mut().purges.clear();
        world.fetch(Request::new(method, &path).host(&case.host));
        let purged =
            seen.0.borrow().purges.iter().any(|purge| purge.tags.iter().any(|tag| write["tag"] == tag.as_str()));
        assert!(purged, "{write} {context}");
    }
    if told["purged_by_its_url"] == true {
        seen.0.borrow_mut().purges.clear();
        world.fetch(Request::new("POST", &case.target).host(&case.host));
        let all = strings(&told["tags"]);
        assert!(seen.0.borrow().purges.iter().flat_map(|purge| &purge.tags).any(|tag| all.contains(tag)), "{context}");
    }
}

#[test]
fn rules_keys_tags_and_lifetimes_are_the_filters() {
    for case in [
        case("GET", "/users/7"),
        case("GET", "/users/7?a=1&b=2"),
        case("GET", "/users/7?b=2&a=1"),
        case("GET", "/users/%37"),
        case("GET", "/users/me"),
        case("GET", "/users/"),
        case("HEAD", "/users/7"),
        case("GET", "/users/7").host("other.example.com:8080"),
        case("GET", "/users/7").host("OTHER.example.com.:80"),
        case("GET", "/users/7/orders?page=2&size=20&utm_source=mail"),
        case("GET", "/users/7/orders?page=1"),
        case("GET", "/users/7/orders?PAGE=2"),
        case("GET", "/users/7/orders?page=1&page=2"),
        case("HEAD", "/users/7/orders"),
        case("GET", "/catalog/a/b?x=1"),
        case("GET", "/catalog/a/b").with("x-tenant", "north").with("accept-language", "de, EN"),
        case("GET", "/catalog/a/b").host("elsewhere.example.com"),
        case("GET", "/feed/news.json"),
        case("GET", "/feed/news.xml"),
        case("GET", "/pages/1?v=3"),
        case("GET", "/pages/1"),
        case("GET", "/nothing"),
        case("OPTIONS", "/users/7"),
    ] {
        compare(&case);
    }
}

/// What a rule may ask for and make keys of beyond method, host and path.
#[test]
fn conditions_identity_bodies_and_properties_count_as_they_do_in_the_filter() {
    for case in [
        case("GET", "/mine"),
        case("GET", "/mine").with("authorization", "Bearer x").with("x-user", "Ann"),
        case("GET", "/mine?utm_source=mail&a=1").with("authorization", "Bearer x").with("x-user", "Ann"),
        case("GET", "/mine").with("authorization", "Bearer x"),
        case("GET", "/tenants/7").with("x-plan", "PRO").with("cookie", "lang=de; other=1"),
        case("GET", "/tenants/007"),
        case("GET", "/tenants/seven"),
        case("GET", "/tenants/seven").with("x-page", "yes"),
        case("GET", "/tenants/7").with("x-page", "yes"),
        case("GET", "/tenants/seven").with("x-page", "yes").with("x-debug", "1"),
        case("GET", "/tenants/seven").with("x-page", "yes").status(410).answers("cache-control", "max-age=9"),
        case("GET", "/tenants/seven").with("x-page", "yes").answers("x-draft", "1"),
        case("POST", "/search").body("{\"q\":1}"),
        case("POST", "/search").body("{\"q\":1}").answers("x-ttl", "33").answers("x-item", "a b"),
        case("POST", "/search").body("{\"q\":1}").answers("x-ttl", "soon"),
        case("POST", "/search").body(&"x".repeat(70_000)),
        case("GET", "/items?kind=books").answer("{\"ttl\":77,\"items\":[{\"id\":1},{\"id\":2}]}"),
        case("GET", "/items?kind=books").answer("{\"items\":[]}"),
        case("GET", "/items?kind=films"),
        case("GET", "/by-route")
            .host("a.wild.example.com")
            .known("source.address", "10.0.0.1:4711")
            .known("xds.route_name", "r1"),
        case("GET", "/off"),
        case("GET", "/accounts/7/profile"),
        case("GET", "/accounts"),
        case("PUT", "/accounts/7"),
        case("PUT", "/items").body("{\"id\":7}").answer("{\"changed\":8}"),
        case("PUT", "/items").body("no json").answer("{}"),
        case("PUT", "/items").body("{\"id\":7}").status(409),
    ] {
        compare(&case);
    }
}

#[test]
fn what_bypasses_the_cache_bypasses_it() {
    for (name, value) in [
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("x-api-key", "k"),
        ("upgrade", "websocket"),
        ("x-original-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-host", "shop.example.com"),
        ("if-match", "\"a\""),
        ("x-forwarded-proto", "https"),
        ("accept-language", "en"),
        ("cache-control", "no-store"),
        ("cache-control", "no-cache"),
    ] {
        for target in ["/users/7", "/catalog/a", "/feed/news.json", "/pages/1?v=2"] {
            compare(&case("GET", target).with(name, value));
        }
    }
    compare(&case("GET", "/users/7").body("{}"));
    compare(&case("GET", &format!("/users/{}", "x".repeat(9000))));
}

#[test]
fn what_is_stored_and_for_how_long_is_the_filters_word() {
    for target in ["/users/7", "/users/7/orders", "/catalog/a", "/feed/news.json"] {
        for (name, value) in [
            ("cache-control", "max-age=60"),
            ("cache-control", "s-maxage=30, max-age=60"),
            ("cache-control", "private"),
            ("cache-control", "no-store"),
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("cache-control", "public"),
            ("cdn-cache-control", "max-age=90"),
            ("shop-cache-control", "max-age=45"),
            ("set-cookie", "a=b"),
            ("vary", "*"),
            ("vary", "accept, x-a"),
            ("surrogate-key", "a b c"),
            ("cache-groups", "\"g1\", \"g2\""),
            ("content-type", "text/event-stream"),
            ("age", "5"),
            ("expires", "0"),
        ] {
            compare(&case("GET", target).answers(name, value));
        }
        for status in [204, 301, 302, 404, 410, 500, 503] {
            compare(&case("GET", target).status(status));
        }
        compare(&case("GET", target).with("authorization", "Bearer x").answers("cache-control", "public, max-age=60"));
        compare(&case("GET", target).answers("cache-control", "no-cache").answers("etag", "\"1\""));
    }
}

#[test]
fn what_a_write_purges_is_the_filters_word() {
    for status in [200, 303, 404, 500] {
        for (method, target) in [
            ("PUT", "/users/7"),
            ("PATCH", "/users/%37"),
            ("DELETE", "/users/7"),
            ("POST", "/users/7"),
            ("POST", "/users/7/orders"),
            ("PUT", "/users/7/orders"),
            ("POST", "/import"),
            ("POST", "/import?what=x"),
            ("PUT", "/users/../users/7"),
            ("DELETE", "/nothing"),
            ("BREW", "/users/7"),
        ] {
            compare(&case(method, target).status(status));
            compare(&case(method, target).status(status).host("elsewhere.example.com").answers("location", "/users/9"));
        }
    }
}
