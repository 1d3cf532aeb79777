//! The harness's API as a process of its own, which can be killed and stopped: `routecache-origin LISTEN ADMIN`.

use std::net::SocketAddr;
use std::process::ExitCode;

use routecache_harness::Origin;

#[tokio::main]
async fn main() -> ExitCode {
    let addresses: Result<Vec<SocketAddr>, _> = std::env::args().skip(1).map(|word| word.parse()).collect();
    let Ok([public, admin]) = addresses.as_deref() else {
        eprintln!("routecache-origin: say where to listen, and where its admin interface does, such as 127.0.0.1:8080");
        return ExitCode::from(2);
    };
    match Origin::start_at(*public, *admin).await {
        Ok(_origin) => std::future::pending().await,
        Err(error) => {
            eprintln!("routecache-origin: {error}");
            ExitCode::FAILURE
        }
    }
}
