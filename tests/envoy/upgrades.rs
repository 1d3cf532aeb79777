//! Another protocol on a route that a cache rule speaks of.

use std::error::Error;

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Envoy, EnvoyConfig, filter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::stage::rules_without_bridge;

/// Reads until this has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> std::io::Result<String> {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(stream.read_u8().await?));
    }
    Ok(text)
}

/// An origin that switches protocols for each connection, and then sends back what comes.
async fn echoes(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        read_until(&mut stream, "\r\n\r\n").await?;
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await?;
        let said = read_until(&mut stream, "\n").await?;
        stream.write_all(format!("heard {said}").as_bytes()).await?;
    }
}

#[tokio::test]
async fn a_websocket_passes_through_a_cached_route_and_leaves_nothing_behind() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?.into();
    tokio::spawn(echoes(listener));
    let options = EnvoyOptions { upstream, wasm: filter()?.display().to_string(), ..EnvoyOptions::default() };
    let config = EnvoyConfig::new(|listen, admin| {
        let yaml = render::envoy(&rules_without_bridge(), &EnvoyOptions { listen, admin: Some(admin), ..options });
        let line = yaml.lines().find(|line| line.ends_with("stat_prefix: ingress")).unwrap_or_default();
        let upgrades = line.replace("stat_prefix: ingress", "upgrade_configs: [{ upgrade_type: websocket }]");
        yaml.replacen(line, &[line, "\n", &upgrades].concat(), 1)
    })?;
    let envoy = Envoy::start(config).await?;
    for round in 0..2 {
        let mut client = TcpStream::connect(envoy.address()).await?;
        let request = "GET /users/1 HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        client.write_all(request.as_bytes()).await?;
        let header = read_until(&mut client, "\r\n\r\n").await?;
        assert!(header.starts_with("HTTP/1.1 101 "), "{header}");
        assert!(header.contains("cache-status: routecache; fwd=bypass; detail=upgrade\r\n"), "{header}");
        client.write_all(format!("{round}\n").as_bytes()).await?;
        assert_eq!(read_until(&mut client, "\n").await?, format!("heard {round}\n"));
    }
    Ok(())
}
