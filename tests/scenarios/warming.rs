//! What the rules list is read once behind a start, so that the first clients find it.

use proxy_wasm_host_test::{Answer, Call, LogLevel, Metric, Reply, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{get, ms, rules, rules_alone, status, world};

const LIST: [&str; 3] =
    ["http://example.com/users/1", "http://example.com/users/2", "https://example.com/users/2/orders"];

fn warming(mut rules: Value, warm: Value) -> Value {
    rules["warm"] = warm;
    rules
}

/// So many gateways with two workers each, and a way back to them.
fn stage<R: Into<Reply>>(rules: &Value, gateways: usize, origin: impl FnMut(&Call) -> R + 'static) -> World {
    let (builder, ..) = world(rules);
    let builder = builder.gateways(gateways).workers(2).loopback("routecache-self");
    builder.log_level(LogLevel::Info).origin(origin).build().expect("a world")
}

/// Which paths the origin was asked for, in order.
fn asked(world: &World) -> Vec<&str> {
    let mut paths: Vec<&str> = world.origin_requests().iter().map(Call::path).collect();
    paths.sort_unstable();
    paths
}

fn is_hit(answer: &Answer) -> bool {
    status(answer).starts_with("hit")
}

#[test]
fn the_first_clients_of_every_worker_find_what_the_rules_list_and_the_group_reads_it_once() {
    for (rules, gateways) in [(rules_alone(), 1), (rules(), 2)] {
        let mut world =
            stage(&warming(rules, json!(LIST)), gateways, |call: &Call| Response::ok(call.path()).after(ms(50)));
        world.run_for(ms(3000));
        assert_eq!(asked(&world), ["/users/1", "/users/2", "/users/2/orders"]);
        for call in world.origin_requests() {
            assert_eq!((call.header("cookie"), call.header("routecache-fetch")), (None, None));
        }
        for gateway in 0..gateways {
            for worker in [0, 1] {
                let first = Request::get("/users/2").gateway(gateway).worker(worker);
                assert!(is_hit(&world.fetch(first)), "gateway {gateway}, worker {worker}");
                let orders = Request::get("/users/2/orders").gateway(gateway).worker(worker);
                assert!(is_hit(&world.fetch(orders.header("x-forwarded-proto", "https"))));
            }
            let stored = &world.metrics_of(gateway)["routecache_warm_stored"];
            assert_eq!(*stored, Metric::Counter(3), "gateway {gateway}");
        }
        assert_eq!(asked(&world).len(), 3);
        assert!(world.logged(LogLevel::Info, "warmed, 3 of 3 are stored"), "{}", world.log_text());
    }
}

#[test]
fn an_origin_that_comes_later_than_the_gateway_is_asked_again() {
    let mut up = false;
    let mut world = stage(&warming(rules_alone(), json!(LIST)), 1, move |call: &Call| {
        up |= call.at > ms(2000);
        if up { Reply::from(Response::ok("x")) } else { Reply::connect_failure() }
    });
    world.run_for(ms(15_000));
    assert!(is_hit(&get(&mut world, 0, "/users/1")) && is_hit(&get(&mut world, 1, "/users/2")));
    assert_eq!((world.metric("routecache_warm_stored"), world.metric("routecache_warm_failed")), (3, 0));
}

#[test]
fn what_isnt_stored_is_said_and_asked_for_once_and_what_stays_broken_is_given_up() {
    let mut world = stage(&warming(rules_alone(), json!(LIST)), 1, |call: &Call| match call.path() {
        "/users/1" => Response::ok("x").header("cache-control", "private"),
        "/users/2" => Response::new(503),
        _ => Response::ok("x"),
    });
    world.run_for(ms(120_000));
    assert_eq!((world.metric("routecache_warm_stored"), world.metric("routecache_warm_failed")), (1, 2));
    let times = |path| asked(&world).into_iter().filter(|asked| *asked == path).count();
    assert_eq!((times("/users/1"), times("/users/2")), (1, 7));
    for said in ["example.com/users/1 of the list to warm isn't stored (200)", "example.com/users/2", "(503)"] {
        assert!(world.log_text().contains(said), "{said} in {}", world.log_text());
    }
}

#[test]
fn no_more_than_so_many_are_read_at_a_time_and_in_a_second_and_clients_dont_wait_for_them() {
    let list: Vec<String> = (0..40).map(|user| format!("http://example.com/users/{user}/orders")).collect();
    let mut rules = warming(rules_alone(), json!(list));
    rules["limits"]["recache_concurrency"] = json!(2);
    rules["limits"]["recache_rate"] = json!(10);
    let mut world = stage(&rules, 1, |_: &Call| Response::ok("x").after(ms(100)));
    let client = get(&mut world, 0, "/users/7");
    assert!(client.took() < ms(105), "{:?}", client.took());
    world.run_for(ms(900));
    assert!((2..=20).contains(&asked(&world).len()), "{:?}", asked(&world));
    world.run_for(ms(8000));
    assert_eq!(asked(&world).len(), 41);
    let starts: Vec<_> = world.origin_requests()[1..].iter().map(|call| call.at).collect();
    let running = |at| starts.iter().filter(|start| **start <= at && at < **start + ms(100)).count();
    assert!(starts.iter().all(|start| running(*start) <= 2));
}

#[test]
fn new_rules_have_it_read_again_only_if_they_ask_for_it() {
    for (reload, times) in [("off", 1), ("on", 2)] {
        let rules = |key: &str| {
            let mut rules = warming(rules_alone(), json!({ "urls": LIST, "on_reload": reload }));
            rules["routes"][0]["cache"]["key"] = key.into();
            rules
        };
        let mut world = stage(&rules("user:{id}"), 1, |_: &Call| Response::ok("x"));
        world.run_for(ms(3000));
        assert_eq!(asked(&world).len(), 3);
        // The users' entries are others by the new rule; the orders' are still good.
        world.reconfigure(rules("users:{id}").to_string()).expect("good rules");
        world.run_for(ms(3000));
        let users = asked(&world).into_iter().filter(|path| *path == "/users/1").count();
        assert_eq!(users, times, "{reload}");
        world.restart_worker(0);
        world.restart_worker(1);
        world.run_for(ms(3000));
        let users = asked(&world).into_iter().filter(|path| *path == "/users/1").count();
        assert_eq!(users, times, "a worker's restart is no start: {reload}");
    }
}

#[test]
fn when_the_worker_that_reads_the_list_dies_another_goes_on() {
    let list: Vec<String> = (0..30).map(|user| format!("http://example.com/users/{user}")).collect();
    let mut rules = warming(rules_alone(), json!(list));
    rules["limits"]["recache_rate"] = json!(5);
    let mut world = stage(&rules, 1, |_: &Call| Response::ok("x").after(ms(10)));
    world.run_for(ms(1500));
    let before = asked(&world).len();
    assert!((1..30).contains(&before), "{before}");
    for worker in [0, 1] {
        world.restart_worker(worker);
    }
    world.run_for(ms(30_000));
    let mut paths = asked(&world);
    paths.dedup();
    assert_eq!(paths.len(), 30);
    assert!(asked(&world).len() <= 30 + 4, "what was stored is found: {:?}", asked(&world));
}

#[test]
fn without_a_way_back_nothing_is_warmed_and_nobody_waits() {
    let (builder, ..) = world(&warming(rules_alone(), json!(LIST)));
    let mut world = builder.workers(2).origin(|_: &Call| Response::ok("x")).build().expect("a world");
    world.run_for(ms(5000));
    assert_eq!(asked(&world).len(), 0);
    assert_eq!(status(&get(&mut world, 0, "/users/1")), "fwd=uri-miss; stored");
}

/// What `Vary` tells apart is there in each language that is listed, and nobody's own is for others.
#[test]
fn what_is_listed_with_fields_is_read_with_them_and_stored_for_those_who_send_them() {
    let url = "http://example.com/users/1";
    let list = json!([
        url,
        { "url": url, "headers": { "accept-language": "de", "X-Number": 7 } },
        { "url": url, "headers": { "Accept-Language": "fr" } },
        { "url": "http://example.com/users/2/orders", "headers": { "authorization": "Bearer me" } },
    ]);
    for straight in [false, true] {
        let mut rules = warming(rules_alone(), list.clone());
        rules["routes"][1]["cache"]["identity"] = json!({ "header": "authorization" });
        if straight {
            rules["routes"][0]["cache"]["origin"] = json!({ "cluster": "orders", "rewrites": "none" });
        }
        let origin = |call: &Call| {
            let said = [call.header("accept-language"), call.header("authorization")].map(|said| said.unwrap_or("-"));
            Response::ok(said.join(" ")).header("vary", "accept-language").after(ms(30))
        };
        let (builder, ..) = world(&rules);
        let builder = builder.workers(2).loopback("routecache-self").origin(origin).callout("orders", origin);
        let mut world = builder.build().expect("a world");
        world.run_for(ms(3000));
        let read = |world: &World| world.origin_requests().len() + straight_calls(world);
        assert_eq!((read(&world), world.metric("routecache_warm_stored")), (4, 4), "{straight}");
        for (language, body) in [(None, "- -"), (Some("de"), "de -"), (Some("fr"), "fr -")] {
            let request = Request::get("/users/1").worker(1);
            let request = language.into_iter().fold(request, |ask, language| ask.header("accept-language", language));
            let answer = world.fetch(request);
            assert_eq!((is_hit(&answer), answer.text().as_str()), (true, body), "{straight}");
        }
        let mine = |who: &str| Request::get("/users/2/orders").header("authorization", who);
        assert!(is_hit(&world.fetch(mine("Bearer me"))));
        assert_eq!(world.fetch(mine("Bearer you")).text(), "- Bearer you");
        assert!(!is_hit(&get(&mut world, 0, "/users/2/orders")), "nobody in particular");
        assert!(!is_hit(&world.fetch(Request::get("/users/1").header("accept-language", "es"))));
    }
}

fn straight_calls(world: &World) -> usize {
    world.callouts().iter().filter(|call| call.cluster == "orders").count()
}
