//! `cargo xtask demo`: the cache at work in two real gateways, line by line, each held against what it should be.

mod stage;
mod table;
mod tour;

use std::process::ExitCode;

use clap::Parser;
use routecache_harness::Result;
use tokio::signal::unix::{SignalKind, signal};

use stage::Stage;
use table::Table;

/// Shows the cache at work in two Envoys, and checks every line.
#[derive(Parser)]
struct Arguments {
    /// Leave it running afterwards, with curl lines to try, until Ctrl-C.
    #[arg(long)]
    serve: bool,
}

/// Everything that runs is a value of the future below, so ending that, for whatever reason, ends it.
#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { serve } = Arguments::parse();
    let outcome = tokio::select! {
        outcome = show(serve) => outcome,
        signal = told_to_end() => {
            println!("\n{signal}: everything that was started has been ended");
            return ExitCode::from(if serve { 0 } else { 130 });
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the tour; whether every line was as it should be.
async fn show(serve: bool) -> Result<bool> {
    let mut stage = Stage::set().await?;
    let mut table = Table::default();
    let outcome = tour::play(&mut stage, &mut table).await;
    let all_hold = table.summary();
    if let Err(error) = outcome {
        stage.print_logs();
        return Err(error);
    }
    if !all_hold {
        stage.print_logs();
    }
    if serve {
        stage.print_invitation();
        std::future::pending::<()>().await; // until a signal ends us
    }
    stage.clear().await;
    Ok(all_hold)
}

/// Waits for Ctrl-C, SIGTERM or SIGHUP (a closed terminal), and names it.
async fn told_to_end() -> &'static str {
    let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = both else {
        return std::future::pending().await; // without handlers the signals end us themselves
    };
    tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}
