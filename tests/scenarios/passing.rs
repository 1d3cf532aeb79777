//! What the shipped filter only passes on: bodies without end, trailers, and words that are for the client.

use proxy_wasm_host_test::Response;

use super::stage::{ms, rules, settle, status, world};

/// Nothing of an event stream is held back or kept, however long it goes on.
#[test]
fn events_reach_the_client_as_they_come_and_are_never_stored() {
    let (builder, _, _) = world(&rules());
    let events = |_: &_| {
        let head = Response::ok("").header("content-type", "text/event-stream");
        (0..10).fold(head, |response, _| response.chunk(ms(1000), "data: x\n\n"))
    };
    let mut world = builder.origin(events).build().expect("a world");
    settle(&mut world);
    for _ in 0..2 {
        let answer = world.get("/users/7");
        assert_eq!(answer.pieces.len(), 10, "one piece for each event");
        let seconds: Vec<u64> = answer.pieces.iter().map(|(at, _)| (*at - answer.started).as_secs()).collect();
        assert_eq!(seconds, (1..=10).collect::<Vec<u64>>(), "each when the origin sent it");
        assert_eq!(status(&answer), "fwd=uri-miss; detail=endless");
    }
}

/// RFC 9110 §6.5: trailers belong to the message, and a stored response couldn't give them back.
#[test]
fn a_response_with_trailers_reaches_the_client_whole_and_is_not_stored() {
    let (builder, _, _) = world(&rules());
    let origin = |_: &_| Response::ok("v1").trailer("x-checksum", "7");
    let mut world = builder.origin(origin).build().expect("a world");
    settle(&mut world);
    for _ in 0..2 {
        let answer = world.get("/users/7");
        assert_eq!((answer.text().as_str(), answer.trailers.get("x-checksum")), ("v1", Some("7")));
        assert!(!status(&answer).starts_with("hit"), "{}", status(&answer));
    }
}

/// It speaks of the client's own cache: it is passed on, and what is stored here stays.
#[test]
fn clear_site_data_is_left_to_the_client() {
    let (builder, _, _) = world(&rules());
    let origin = |_: &_| Response::ok("v1").header("clear-site-data", "\"cache\"");
    let mut world = builder.origin(origin).build().expect("a world");
    settle(&mut world);
    for wanted in ["fwd=uri-miss; stored", "hit; detail=worker"] {
        let answer = world.get("/users/7");
        assert_eq!((status(&answer).as_str(), answer.header("clear-site-data")), (wanted, Some("\"cache\"")));
    }
    world.get("/users/8");
    assert_eq!(status(&world.get("/users/7")), "hit; detail=worker");
}
