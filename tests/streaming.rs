//! How a miss comes to the client, in whichever gateway the filter runs.

use routecache_harness::{Answer, CacheStatus, Connection, Origin, Request, Result};

/// It comes piece by piece, while the origin still holds the rest, and is kept at its end only.
pub async fn piece_by_piece(origin: &Origin, workers: &mut [Connection; 2]) -> Result<()> {
    let (answer, gate) = Answer::in_two("{\"first\":1,", "\"second\":2}");
    origin.script("GET", "/users/1", answer);
    let [one, other] = workers;

    let mut arriving = one.begin(Request::get("/users/1")).await?;
    assert_eq!(arriving.next().await?.as_deref(), Some(&b"{\"first\":1,"[..])); // the origin still holds the rest
    let meanwhile = other.begin(Request::get("/users/1")).await?;
    assert!(!CacheStatus::of(&meanwhile.headers).hit, "{:?}", meanwhile.headers);
    gate.open();
    assert_eq!(arriving.next().await?.as_deref(), Some(&b"\"second\":2}"[..]));
    assert_eq!(arriving.next().await?, None);

    let hit = one.get("/users/1").await?;
    assert_eq!((hit.cache_status().hit, hit.text().as_str()), (true, "{\"first\":1,\"second\":2}"));
    Ok(())
}
