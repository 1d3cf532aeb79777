//! The cases in a real Envoy: each has a listener, a filter, an origin and a cluster for callouts of its own.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use routecache_harness::{Envoy, EnvoyConfig, Error, Port, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::case::{Answer, Body, Case, PAUSE, ROUTE_TIMEOUT};
use super::grpc;
use super::http1::{self, Message};
use super::seen::{Exchange, Seen};
use crate::probe::probe;

/// Plays all cases at once.
pub async fn play(cases: &[Case]) -> Result<Vec<Seen>> {
    let folder = tempfile::tempdir().map_err(|cause| unexpected("a temporary folder", &cause))?;
    let (mut listeners, mut clusters, mut stages) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        let stage = Stage::set(case).await?;
        let wasm =
            wat::parse_bytes(&probe(&case.filter())).map_err(|cause| unexpected(case.name, &cause))?.into_owned();
        let file = folder.path().join(format!("{}.wasm", case.name));
        std::fs::write(&file, wasm).map_err(|cause| unexpected("write a filter", &cause))?;
        listeners.push(listener(case, &stage, &file));
        clusters.push(cluster(&format!("origin-of-{}", case.name), stage.origin.port));
        clusters.push(cluster(&case.cluster(), stage.callout.port));
        if let Some(server) = &stage.grpc {
            clusters.push(grpc_cluster(&case.grpc_cluster(), server.port));
        }
        stages.push(stage);
    }
    let (listen, admin) = (Port::claim()?, Port::claim()?);
    let yaml = json!({
        "admin": { "address": address(admin.number()) },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    let config =
        EnvoyConfig { yaml: yaml.to_string(), listen, admin, concurrency: 1, environment: Vec::new(), reloads: false };
    let envoy = Envoy::start(config).await?;
    let exchanges: Vec<_> =
        cases.iter().zip(&stages).map(|(case, stage)| tokio::spawn(ask(case.clone(), stage.listen.number()))).collect();
    let mut answers = Vec::new();
    for exchange in exchanges {
        answers.push(exchange.await.map_err(|cause| unexpected("a client", &cause))?);
    }
    // What follows an answer: the log, the end of the stream, callouts that nobody waits for.
    sleep(Duration::from_millis(800)).await;
    let lines = envoy.lines();
    envoy.stop().await;
    let seen = cases.iter().zip(stages).zip(answers).map(|((case, stage), answer)| {
        // Of a stream, with the names of plugin and VM; of a root context, with the VM's.
        let marks = [format!("wasm log {0} {0}: ", case.name), format!("wasm log {}: ", case.name)];
        let text = |line: &String| marks.iter().find_map(|mark| Some(line.split_once(mark)?.1.to_owned()));
        let said = lines.iter().filter_map(text).collect();
        let talked = stage.grpc.map_or_else(Vec::new, |server| server.heard());
        Seen::new(said, answer, &stage.origin.heard(), &talked)
    });
    Ok(seen.collect())
}

fn unexpected(what: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::Unexpected(format!("{what}: {cause}"))
}

/// The ports of one case.
struct Stage {
    listen: Port,
    origin: Server,
    callout: Server,
    grpc: Option<grpc::Server>,
}

impl Stage {
    async fn set(case: &Case) -> Result<Self> {
        let server =
            async |answer: &Answer| Server::start(answer.clone()).await.map_err(|cause| unexpected("a server", &cause));
        let grpc = match case.grpc {
            Some(talk) => Some(grpc::Server::start(talk).await.map_err(|cause| unexpected("a server", &cause))?),
            None => None,
        };
        let (origin, callout) = (server(&case.origin).await?, server(&case.callout).await?);
        Ok(Self { listen: Port::claim()?, origin, callout, grpc })
    }
}

/// Kept for a protocol that nobody speaks, so that nobody listens there.
const NOBODYS_PORT: u16 = 1;

/// An upstream that answers every request in the same way.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Server {
    async fn start(answer: Answer) -> io::Result<Self> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        if matches!(answer, Answer::Refuse) {
            return Ok(Self { port: NOBODYS_PORT, heard });
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, into) = (listener.local_addr()?.port(), Arc::clone(&heard));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), Arc::clone(&into)));
            }
        });
        Ok(Self { port, heard })
    }

    fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves one connection; it ends with the first error, which is the other side's leaving.
async fn serve(stream: TcpStream, answer: Answer, heard: Arc<Mutex<Vec<Message>>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let request = http1::read(&mut reader, false, false, usize::MAX).await;
        if !request.whole {
            return Ok(());
        }
        let to_head = request.start.starts_with("HEAD ");
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        match &answer {
            Answer::Reply { status, headers, body, ends } => {
                let start = format!("HTTP/1.1 {status} -");
                send(&mut writer, &start, headers, body, *ends, to_head || matches!(status, 204 | 304)).await?;
                if !ends {
                    return Ok(());
                }
            }
            Answer::HangAfter(piece) => {
                writer.write_all(&http1::head("HTTP/1.1 200 -", &[("transfer-encoding", "chunked")])).await?;
                writer.write_all(&http1::chunk(piece)).await?;
                sleep(Duration::from_secs(10)).await;
            }
            Answer::Hang => sleep(Duration::from_secs(10)).await,
            Answer::Close | Answer::Refuse => return Ok(()),
        }
    }
}

/// Writes a message with pauses between its pieces.
async fn send(
    writer: &mut (impl AsyncWriteExt + Unpin),
    start: &str,
    headers: &[(&'static str, &'static str)],
    body: &Body,
    ends: bool,
    head_only: bool,
) -> io::Result<()> {
    let mut headers = headers.to_vec();
    let length;
    match body {
        Body::None if start.starts_with("HTTP") && !head_only => headers.push(("content-length", "0")),
        Body::None => {}
        Body::Whole(body) => {
            // One that breaks off has promised more.
            length = (body.len() + usize::from(!ends)).to_string();
            let mut fields: Vec<(&str, &str)> = headers.to_vec();
            fields.push(("content-length", &length));
            let mut bytes = http1::head(start, &fields);
            if !head_only {
                bytes.extend(body.as_bytes());
            }
            writer.write_all(&bytes).await?;
            if !ends {
                sleep(PAUSE).await;
            }
            return Ok(());
        }
        Body::Chunks(..) => headers.push(("transfer-encoding", "chunked")),
    }
    writer.write_all(&http1::head(start, &headers)).await?;
    if let Body::Chunks(chunks, trailers) = body
        && !head_only
    {
        for chunk in *chunks {
            sleep(PAUSE).await;
            writer.write_all(&http1::chunk(chunk)).await?;
        }
        sleep(PAUSE).await;
        if ends {
            writer.write_all(&http1::last_chunk(trailers)).await?;
        }
    }
    Ok(())
}

/// Sends the case's request, and reads what comes until the answer ends, breaks off, or was enough.
async fn ask(case: Case, port: u16) -> Exchange {
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (reader, mut writer) = stream.into_split();
        let request = case.request.clone();
        let sending = tokio::spawn(async move {
            let start = format!("{} {} HTTP/1.1", request.method, request.path);
            let mut headers = vec![("host", "example.com")];
            headers.extend(&request.headers);
            // The gateway may have answered before, and closed.
            let _ = send(&mut writer, &start, &headers, &request.body, true, false).await;
            writer
        });
        let enough = case.request.leaves_after.unwrap_or(usize::MAX);
        let is_head = case.request.method == "HEAD";
        let answer = http1::read(&mut BufReader::new(reader), true, is_head, enough).await;
        sending.abort();
        Some(answer)
    };
    let answer = timeout(Duration::from_secs(4), exchange).await.ok().flatten();
    Exchange::of(&answer.unwrap_or_default())
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } }
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }]
        }
    })
}

fn grpc_cluster(name: &str, port: u16) -> Value {
    let mut cluster = cluster(name, port);
    cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"] =
        json!({ "http2_protocol_options": {} });
    cluster
}

fn listener(case: &Case, stage: &Stage, wasm: &Path) -> Value {
    let mut listener = json!({
        "name": case.name,
        "address": address(stage.listen.number()),
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": case.name,
                "http_protocol_options": { "enable_trailers": true },
                "route_config": {
                    "name": "routes",
                    "virtual_hosts": [{
                        "name": "local",
                        "domains": ["*"],
                        "routes": [{
                            "name": "default",
                            "match": { "prefix": "/" },
                            "route": {
                                "cluster": format!("origin-of-{}", case.name),
                                "timeout": format!("{}s", ROUTE_TIMEOUT.as_secs_f64()),
                            }
                        }]
                    }]
                },
                "http_filters": [
                    {
                        "name": "wasm",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                            "config": {
                                "name": case.name,
                                "allow_on_headers_stop_iteration": case.stop_in_headers_alone,
                                "vm_config": {
                                    "vm_id": case.name,
                                    "runtime": "envoy.wasm.runtime.v8",
                                    "code": { "local": { "filename": wasm.display().to_string() } }
                                }
                            }
                        }
                    },
                    {
                        "name": "router",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                        }
                    }
                ]
            }
        }] }]
    });
    if let Some(limit) = case.buffer_limit {
        listener["per_connection_buffer_limit_bytes"] = limit.into();
    }
    listener
}
