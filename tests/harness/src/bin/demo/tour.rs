//! The tour: what the cache does, in the order in which one would ask.

use std::time::{Duration, Instant};

use http::StatusCode;
use routecache_harness::{Error, READ_TIME, Request, Response, Result};
use serde_json::json;
use tokio::time::sleep;

use crate::stage::{Gateway, Stage};
use crate::table::{Cache, Expected, Line, Table};

/// The consistency window of the rules: how long another gateway may take to hear of a purge, and how long a gateway
/// trusts what it holds without hearing from the bridge.
const WINDOW: Duration = Duration::from_secs(1);

/// `bridge.timeout` of the rules, and what a busy machine may add.
const BRIDGE_TIMEOUT: Duration = Duration::from_millis(50 + 200);

/// `purge.timeout` of the rules, and what a busy machine may add.
const PURGE_TIMEOUT: Duration = Duration::from_millis(250 + 200);

const USERS: &str = "/users";
const USER_1: &str = "/users/1";
const USER_2: &str = "/users/2";
const USER_12: &str = "/users/12";
const ORDERS_1: &str = "/users/1/orders?page=1&size=2";
const ORDERS_2: &str = "/users/2/orders?page=1&size=2";

/// Plays all of it.
///
/// # Errors
///
/// When a request has no answer at all, or something doesn't start.
pub(crate) async fn play(stage: &mut Stage, table: &mut Table) -> Result<()> {
    settled(&stage.a).await?;
    settled(&stage.b).await?;
    reads(stage, table).await?;
    lists(stage, table).await?;
    write(stage, table).await?;
    failed_write(stage, table).await?;
    second_gateway(stage, table).await?;
    bridge_gone(stage, table).await?;
    bridge_back(stage, table).await
}

async fn reads(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("A read that nobody made before goes to the origin, and is kept.");
    ask(stage, table, "A/0", Request::get(USER_1), miss(1)).await?;
    table.chapter("The same worker has it in its memory.");
    ask(stage, table, "A/0", Request::get(USER_1), hit("worker", 1)).await?;
    table.chapter("The gateway's other worker finds it in the memory that they share, and then has it too.");
    ask(stage, table, "A/1", Request::get(USER_1), hit("gateway", 1)).await?;
    ask(stage, table, "A/1", Request::get(USER_1), hit("worker", 1)).await
}

async fn lists(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("A list is kept by the parameters that its rule names, in whatever order they come.");
    ask(stage, table, "A/0", Request::get(ORDERS_1), miss(1)).await?;
    ask(stage, table, "A/0", Request::get("/users/1/orders?size=2&page=1"), hit("worker", 1)).await?;
    ask(stage, table, "A/0", Request::get("/users/1/orders?page=2&size=2"), miss(1)).await?;
    table.chapter("Other users are other entries, and all of them another one.");
    ask(stage, table, "A/0", Request::get(USERS), miss(None)).await?;
    ask(stage, table, "A/0", Request::get(USERS), hit("worker", None)).await?;
    ask(stage, table, "A/0", Request::get(USER_2), miss(1)).await?;
    ask(stage, table, "A/0", Request::get(ORDERS_2), miss(1)).await?;
    ask(stage, table, "A/0", Request::get(USER_12), miss(1)).await
}

async fn write(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("A write purges what carries its tags, lists too, on both workers, before its answer is released.");
    ask(stage, table, "A/0", Request::put(USER_1, &json!({ "name": "Augusta" })), purged(2)).await?;
    ask(stage, table, "A/1", Request::get(USER_1), miss(2)).await?;
    ask(stage, table, "A/0", Request::get(USER_1), hit("gateway", 2)).await?;
    ask(stage, table, "A/0", Request::get(ORDERS_1), miss(2)).await?;
    ask(stage, table, "A/0", Request::get("/users/1/orders?page=2&size=2"), miss(2)).await?;
    ask(stage, table, "A/1", Request::get(USERS), miss(None)).await?;
    table.chapter("It purges nothing else: not user 2, and not user 12, whose number begins with 1.");
    ask(stage, table, "A/0", Request::get(USER_2), hit("worker", 1)).await?;
    ask(stage, table, "A/0", Request::get(ORDERS_2), hit("worker", 1)).await?;
    ask(stage, table, "A/0", Request::get(USER_12), hit("worker", 1)).await
}

async fn failed_write(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("A write that fails purges nothing.");
    stage.origin.fail_next_write(StatusCode::INTERNAL_SERVER_ERROR);
    let failed = Expected { status: 500, cache: Cache::Write(None), version: None };
    ask(stage, table, "A/0", Request::put(USER_2, &json!({ "name": "nobody" })), failed).await?;
    ask(stage, table, "A/0", Request::get(USER_2), hit("worker", 1)).await
}

async fn second_gateway(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("A second gateway on the same bridge gets what the first one has read.");
    sleep(Duration::from_millis(300)).await; // the bridge is written behind the client's back
    ask(stage, table, "B/0", Request::get(USER_2), hit("group", 1)).await?;
    ask(stage, table, "B/0", Request::get(USER_2), hit("worker", 1)).await?;
    ask(stage, table, "B/1", Request::get(USER_2), hit("gateway", 1)).await?;
    table.chapter("A write through the first gateway reaches the second one within the window of 1 s.");
    ask(stage, table, "A/0", Request::put(USER_2, &json!({ "name": "Amazing Grace" })), purged(2)).await?;
    let start = Instant::now();
    while start.elapsed() < WINDOW && get(&mut stage.b, 1, USER_2).await?.cache_status().hit {
        sleep(Duration::from_millis(5)).await;
    }
    let heard_after = start.elapsed();
    let text = format!("B/1 stopped serving version 1 after {} ms", heard_after.as_millis());
    table.fact(&text, heard_after < WINDOW);
    ask(stage, table, "B/0", Request::get(USER_2), hit("gateway", 2)).await
}

async fn bridge_gone(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("The bridge is stopped. Nothing fails and nothing waits for it.");
    stage.bridge.stop().await;
    let gone = Instant::now();
    let failed_or_slow = unharmed(stage, "/users/12/orders", gone + WINDOW * 2).await?;
    table.fact(
        &format!("for {} s every read through A and B was answered in time, with 200", (WINDOW * 2).as_secs()),
        failed_or_slow.is_none(),
    );
    if let Some(answer) = failed_or_slow {
        println!("         ✗ one answered {} after {:?}", answer.status, answer.elapsed);
    }
    table.chapter("Cut off for longer than the window, a gateway can't know of purges, so it trusts nothing it holds.");
    let bypassed = || Expected { status: 200, cache: Cache::Forwarded("bypass", Some("feed-lost")), version: None };
    ask(stage, table, "A/0", Request::get(USER_12), bypassed()).await?;
    ask(stage, table, "B/0", Request::get(USER_2), bypassed()).await?;
    table
        .chapter("A write goes through; that its purge still has to reach the other gateways is said, and remembered.");
    let pending = Expected { status: 200, cache: Cache::Write(Some("purge-pending")), version: Some(2) };
    let start = Instant::now();
    ask(stage, table, "A/0", Request::put(USER_12, &json!({ "name": "E. W. D." })), pending).await?;
    table.fact("its answer was held for at most purge.timeout", start.elapsed() < PURGE_TIMEOUT + READ_TIME);
    Ok(())
}

async fn bridge_back(stage: &mut Stage, table: &mut Table) -> Result<()> {
    table.chapter("The bridge is started again. The gateways find it by themselves.");
    stage.bridge.restart().await?;
    let start = Instant::now();
    settled(&stage.a).await?;
    settled(&stage.b).await?;
    table.fact(&format!("both gateways hear it again after {} ms", start.elapsed().as_millis()), true);
    ask(stage, table, "A/0", Request::get(USER_1), miss(2)).await?;
    ask(stage, table, "A/0", Request::get(USER_1), hit("worker", 2)).await?;
    sleep(Duration::from_millis(300)).await; // as above
    ask(stage, table, "B/0", Request::get(USER_1), hit("group", 2)).await?;
    ask(stage, table, "B/0", Request::get(USER_12), miss(2)).await
}

/// Asks through the gateway and worker that `via` names, and enters the line.
async fn ask(stage: &mut Stage, table: &mut Table, via: &str, request: Request, expected: Expected) -> Result<()> {
    let name = request.to_string();
    let (gateway, worker) = match via {
        "A/0" => (&mut stage.a, 0),
        "A/1" => (&mut stage.a, 1),
        "B/0" => (&mut stage.b, 0),
        _ => (&mut stage.b, 1),
    };
    let before = stage.origin.requests_in_all();
    let answer = gateway.workers[worker].send(request).await?;
    let origin_heard = stage.origin.requests_in_all() - before;
    let via = format!("{}/{worker}", gateway.name);
    table.line(&Line { via, request: name, answer: &answer, origin_heard }, &expected);
    Ok(())
}

async fn get(gateway: &mut Gateway, worker: usize, path: &str) -> Result<Response> {
    gateway.workers[worker].get(path).await
}

/// Reads through both gateways until `end`, and returns an answer that wasn't 200 or was late, if there was one.
async fn unharmed(stage: &mut Stage, path: &str, end: Instant) -> Result<Option<Response>> {
    let mut harmed = None;
    while Instant::now() < end {
        for gateway in [&mut stage.a, &mut stage.b] {
            let answer = get(gateway, 0, path).await?;
            if answer.status != 200 || answer.elapsed > READ_TIME + BRIDGE_TIMEOUT {
                harmed = Some(answer);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(harmed)
}

/// Waits until the gateway hears the bridge: from its start, or the bridge's, until its first poll it bypasses what it
/// holds. Asks for a user that the tour leaves alone.
async fn settled(gateway: &Gateway) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let answer = gateway.client().get("/users/999").await?;
        if answer.cache_status().detail.as_deref() != Some("feed-lost") {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    let name = gateway.name;
    Err(Error::Unexpected(format!("gateway {name} doesn't hear the bridge within 10 s\n{}", gateway.envoy.log())))
}

fn miss(version: impl Into<Option<u64>>) -> Expected {
    Expected { status: 200, cache: Cache::Forwarded("uri-miss", None), version: version.into() }
}

fn hit(tier: &'static str, version: impl Into<Option<u64>>) -> Expected {
    Expected { status: 200, cache: Cache::Hit(tier), version: version.into() }
}

fn purged(version: u64) -> Expected {
    Expected { status: 200, cache: Cache::Write(Some("purged")), version: Some(version) }
}
