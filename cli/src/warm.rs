//! `routecache warm`.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use clap::Args;
use routecache_core::fetch::may_carry;
use routecache_core::fields::Fields;
use routecache_core::request::is_credential;
use routecache_core::warm::Came;

use crate::failure::Failure;
use crate::http::{Client, Server};
use crate::progress::Progress;
use crate::tls::Certificates;

/// Requests that are under way at once, at most.
const AT_ONCE_MAX: u16 = 64;

/// Asks a gateway for each URL of a list, so that it has them
///
/// A line is a path, `/menu`, or a URL, `https://shop.example/menu`, whose host is then asked for, and with `X-Forwarded-Proto` its
/// scheme, which counts if the gateway trusts who asks; lines that begin with `#` are passed over. Below it, each farther in, may stand
/// fields of that request, such as `accept-language: de`, so that one URL may come several times. What a rule doesn't cache isn't, as
/// for any request.
#[derive(Args)]
pub struct Arguments {
    /// The list; `-` for standard input
    file: PathBuf,

    /// The gateway: `http://host:port`, `https://host:port` or `unix:/path`
    #[arg(long, value_name = "URL")]
    gateway: Server,

    #[command(flatten)]
    certificates: Certificates,

    /// Requests under way at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(AT_ONCE_MAX)))]
    at_once: u16,
}

/// What came of the lines so far.
struct Tally {
    hits: usize,
    stored: usize,
    /// Answered, and not by the cache nor for it.
    unstored: usize,
    failed: usize,
    progress: Progress,
}

/// Asks for all of them, says what came of each, and fails if one came to nothing.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let read = if arguments.file == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(&arguments.file)
    };
    let text = read.map_err(|error| Failure::Unread(arguments.file.clone(), error))?;
    let reads = reads(&text);
    let gateway = arguments.gateway.client(&arguments.certificates)?;
    let waiting = Mutex::new(reads.iter());
    let tally = Mutex::new(Tally { hits: 0, stored: 0, unstored: 0, failed: 0, progress: Progress::new() });
    std::thread::scope(|scope| {
        for _ in 0..arguments.at_once {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(read) = next else { return };
                    let came = ask(&gateway, read);
                    tally.lock().unwrap_or_else(PoisonError::into_inner).add(&read.to_string(), came, reads.len());
                }
            });
        }
    });
    let Tally { hits, stored, unstored, failed, progress } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    drop(progress);
    println!("asked for {}: {stored} stored, {hits} hit, {unstored} not stored, {failed} failed", reads.len());
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

/// One of the list.
struct Read<'a> {
    line: &'a str,
    /// What stands below it.
    fields: Vec<&'a str>,
}

impl Display for Read<'_> {
    /// In one line, without what is secret.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.line)?;
        self.fields.iter().try_for_each(|field| match field.split_once(": ") {
            Some((name, _)) if is_credential(&name.to_ascii_lowercase()) => write!(f, " {name}: …"),
            _ => write!(f, " {field}"),
        })
    }
}

fn reads(text: &str) -> Vec<Read<'_>> {
    let mut reads: Vec<Read<'_>> = Vec::new();
    for whole in text.lines() {
        let line = whole.trim();
        let is_field = whole.starts_with([' ', '\t']) && line.contains(": ");
        match reads.last_mut() {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some(read) if is_field => read.fields.push(line),
            _ => reads.push(Read { line, fields: Vec::new() }),
        }
    }
    reads
}

impl Tally {
    /// Counts a line, and says what came of it.
    fn add(&mut self, line: &str, came: Result<(u16, String), String>, of: usize) {
        self.progress.clear();
        match came {
            Ok((status, cache)) => {
                println!("{status} {line}  {cache}");
                let said: &[(&[u8], &[u8])] = &[(b"cache-status", cache.as_bytes())];
                let kept = Came::of(&Fields::from_pairs(said.to_vec()), status, 0) == Came::Stored;
                let is_hit = kept && cache.rsplit(',').next().is_some_and(|ours| ours.contains("; hit"));
                match (status, kept, is_hit) {
                    (400.., ..) => self.failed += 1,
                    (_, _, true) => self.hits += 1,
                    (_, true, false) => self.stored += 1,
                    (_, false, false) => self.unstored += 1,
                }
            }
            Err(why) => {
                self.failed += 1;
                eprintln!("{line}: {why}");
            }
        }
        let done = self.hits + self.stored + self.unstored + self.failed;
        self.progress.show(u64::try_from(done).unwrap_or(u64::MAX), u64::try_from(of).unwrap_or(u64::MAX), "asked for");
    }
}

/// The status of the answer, and what it says of the cache.
fn ask(gateway: &Client, read: &Read<'_>) -> Result<(u16, String), String> {
    let line = read.line;
    let (scheme, host, target) = match line.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            (Some(scheme), Some(host), path)
        }
        None => (None, None, line),
    };
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("is neither a path nor a URL".to_owned());
    }
    let scheme = scheme.map(|scheme| ("x-forwarded-proto", scheme));
    let mut fields: Vec<_> = host.map(|host| ("host", host)).into_iter().chain(scheme).collect();
    for field in &read.fields {
        let (name, value) = field.split_once(": ").unwrap_or_default();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || !may_carry(&name.to_ascii_lowercase()) {
            return Err(format!("can't be asked for with `{field}`"));
        }
        fields.push((name, value.trim_start()));
    }
    let answer = gateway.ask("GET", target, &fields, b"").map_err(|error| error.to_string())?;
    Ok((answer.status, answer.field("cache-status").unwrap_or("no Cache-Status").to_owned()))
}
