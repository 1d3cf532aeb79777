//! `routecache warm`.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use clap::Args;

use crate::failure::Failure;
use crate::http::Server;

/// Requests that are under way at once, at most.
const AT_ONCE_MAX: u16 = 64;

/// Asks a gateway for each URL of a list, so that it has them
///
/// A line is a path, `/menu`, or a URL, `https://shop.example/menu`, whose host is then asked for; lines that begin with `#`
/// are passed over. What a rule doesn't cache isn't, as for any request.
#[derive(Args)]
pub struct Arguments {
    /// The list; `-` isn't taken
    file: PathBuf,

    /// The gateway: `http://host:port` or `unix:/path`
    #[arg(long, value_name = "URL")]
    gateway: Server,

    /// Requests under way at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(AT_ONCE_MAX)))]
    at_once: u16,
}

/// Asks for all of them, says what came of each, and fails if one came to nothing.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = fs::read_to_string(&arguments.file).map_err(|error| Failure::Unread(arguments.file.clone(), error))?;
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let waiting = Mutex::new(lines.iter());
    let failed = Mutex::new(0_usize);
    std::thread::scope(|scope| {
        for _ in 0..arguments.at_once {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(line) = next else { return };
                    if let Err(why) = ask(&arguments.gateway, line) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                        eprintln!("{line}: {why}");
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("asked for {}, {failed} of them in vain", lines.len());
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn ask(gateway: &Server, line: &str) -> Result<(), String> {
    let (host, target) = match line.split_once("://") {
        Some((_, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            (Some(host), path)
        }
        None => (None, line),
    };
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("is neither a path nor a URL".to_owned());
    }
    let fields: Vec<_> = host.iter().map(|host| ("host", *host)).collect();
    let answer = gateway.ask("GET", target, &fields, b"").map_err(|error| error.to_string())?;
    let status = answer.field("cache-status").unwrap_or("no Cache-Status");
    println!("{} {line}  {status}", answer.status);
    if answer.status < 400 { Ok(()) } else { Err(format!("answered with {}", answer.status)) }
}
