//! `routecache`: what people do with rules outside of a gateway.
//!
//! Each command is a module. Exit codes: 0 all is well, 1 the rules have mistakes or a case failed, 2 the command couldn't do its work.

mod asking;
mod check;
mod completions;
mod diff;
mod explain;
mod failure;
mod filter;
mod format;
mod get;
mod http;
mod man;
mod progress;
mod purge;
mod render;
mod rules;
mod schema;
mod serve;
mod stat;
mod test;
mod tls;
mod warm;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// HTTP response cache for Envoy and its kin: checks, tests and serves route rules, and writes the gateway configuration around them.
#[derive(Parser)]
#[command(name = "routecache", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  routecache check rules.yaml
  routecache explain rules.yaml GET https://api.example.com/users/7/orders?page=2
  routecache test rules.test.yaml
  routecache serve rules.yaml --upstream http://127.0.0.1:8080
  routecache filter -o routecache.wasm
  routecache render rules.yaml --target envoy --upstream 127.0.0.1:8080 -o envoy.yaml";

#[derive(Subcommand)]
enum Command {
    Check(check::Arguments),
    Explain(Box<explain::Arguments>),
    Diff(diff::Arguments),
    Test(test::Arguments),
    Render(Box<render::Arguments>),
    Serve(Box<serve::Arguments>),
    Filter(filter::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    Purge(Box<purge::Arguments>),
    Get(get::Arguments),
    Stat(stat::Arguments),
    Warm(warm::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Render(arguments) => render::run(*arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Filter(arguments) => filter::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
        Command::Purge(arguments) => purge::run(&arguments),
        Command::Get(arguments) => get::run(&arguments),
        Command::Stat(arguments) => stat::run(&arguments),
        Command::Warm(arguments) => warm::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = format!("{failure:#}");
            if !message.is_empty() {
                // In colours only where somebody sees them, and `NO_COLOR` doesn't forbid them.
                anstream::eprintln!("{message}");
            }
            failure.exit_code()
        }
    }
}
