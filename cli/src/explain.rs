//! `routecache explain`.

mod message;
mod rules;
mod shown;
mod verdict;
mod words;
mod writes;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::format::Format;
use crate::rules::{Environment, load, variable, write};
use message::Answered;
use verdict::explain;

pub use message::Asked;
pub use rules::answering;

/// Tells what becomes of a request: which rule answers it and why not the others, its key, tags and lifetime, what is stored, and which
/// writes purge it
///
/// Nothing is sent anywhere: the filter's own code is asked. With `--response` it also tells whether that response would be stored, for
/// how long, and why not. docs/cli.md has examples.
///
/// Exits with 0, 1 if the rules have mistakes, 2 if the request or a file can't be read.
#[derive(Args)]
pub struct Arguments {
    /// The rules, YAML or JSON; `-` is standard input
    #[arg(value_name = "RULES")]
    rules: PathBuf,
    /// The request's method
    #[arg(value_name = "METHOD", required_unless_present = "expand", requires = "url")]
    method: Option<String>,
    /// Its URL, such as `https://api.example.com/users/7/orders?page=2`
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// A request header field; can be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = message::field)]
    headers: Vec<(String, String)>,
    /// The request's body: text, or a file after `@`
    #[arg(long, value_name = "TEXT|@FILE")]
    body: Option<String>,
    /// What the gateway knows of the request, such as `source.address=10.0.0.1:4711`, in Envoy's words; can be repeated
    #[arg(long = "property", value_name = "PATH=VALUE", value_parser = variable)]
    properties: Vec<(String, String)>,
    /// The origin's response: a status, or a file with what `curl -i` prints; `-` is standard input
    #[arg(long, value_name = "STATUS|FILE")]
    response: Option<String>,
    /// A header field of the response, which then is a 200 unless `--response` says otherwise; can be repeated
    #[arg(long = "response-header", value_name = "NAME: VALUE", value_parser = message::field)]
    response_headers: Vec<(String, String)>,
    /// The response's body: text, or a file after `@`
    #[arg(long, value_name = "TEXT|@FILE")]
    response_body: Option<String>,
    /// How long the origin takes, for rules with `slower_than`, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    took: u64,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Show the rules themselves, with what stands for them where they are short for others
    #[arg(long, conflicts_with_all = ["method", "url", "headers", "body", "properties", "response", "response_headers", "response_body", "took"])]
    expand: bool,
    #[command(flatten)]
    environment: Environment,
}

/// Explains a request, or shows the rules.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = load(&arguments.rules, &arguments.environment)?;
    if arguments.expand {
        let text = match arguments.format {
            Format::Text => loaded.expanded(),
            Format::Json => format!("{:#}\n", loaded.expanded),
        };
        return write(Path::new("-"), text.as_bytes());
    }
    let Arguments { method: Some(method), url: Some(url), .. } = arguments else { return Ok(()) };
    let asked = Asked::new(method, url, &arguments.headers, arguments.body.as_deref(), &arguments.properties)?;
    let Arguments { response, response_headers, response_body, .. } = arguments;
    let answered = match response.as_deref() {
        None if response_headers.is_empty() && response_body.is_none() => None,
        given => {
            Some(Answered::new(given.unwrap_or("200"), response_headers, response_body.as_deref(), arguments.took)?)
        }
    };
    let explained = explain(&loaded, &arguments.environment, &asked, answered.as_ref());
    let text = match arguments.format {
        Format::Text => explained.to_string(),
        Format::Json => {
            let json = serde_json::to_value(&explained);
            format!("{:#}\n", json.map_err(|error| Failure::Unusable(url.clone(), error.to_string()))?)
        }
    };
    write(Path::new("-"), text.as_bytes())
}
