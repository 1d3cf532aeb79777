//! `cargo xtask demo`: the cache at work in two real gateways, line by line, each held against what it should be.

mod stage;
mod table;
mod tour;

use std::future::poll_fn;
use std::process::ExitCode;
use std::task::Poll;

use clap::Parser;
use routecache_harness::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use stage::Stage;
use table::Table;

/// Shows the cache at work in two Envoys, and checks every line.
#[derive(Parser)]
struct Arguments {
    /// Leave it running afterwards, with curl lines to try, until Ctrl-C.
    #[arg(long)]
    serve: bool,
}

/// Everything that runs is a value of a future here, so ending that, for whatever reason, ends it.
#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { serve } = Arguments::parse();
    let mut signals = Signals::listen();
    let played = tokio::select! {
        played = play() => played,
        signal = signals.next() => return signal.end(),
    };
    match played {
        Ok((stage, all_hold)) => {
            if serve {
                stage.print_invitation();
                signals.next().await.end();
            }
            stage.clear().await;
            if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("demo: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the tour; the stage as it is then, and whether every line was as it should be.
async fn play() -> Result<(Stage, bool)> {
    let mut stage = Stage::set().await?;
    let mut table = Table::default();
    let outcome = tour::play(&mut stage, &mut table).await;
    let all_hold = table.summary();
    if outcome.is_err() || !all_hold {
        stage.print_logs();
    }
    outcome.map(|()| (stage, all_hold))
}

/// What ends us: Ctrl-C, SIGTERM, SIGHUP (a closed terminal).
struct Signals(Vec<(Told, Signal)>);

/// A signal's name and number.
#[derive(Clone, Copy)]
struct Told(&'static str, u8);

impl Signals {
    /// Where a signal can't be listened to, it ends us all the same, and the system ends what we started.
    fn listen() -> Self {
        let kinds = [
            (Told("Ctrl-C", 2), SignalKind::interrupt()),
            (Told("SIGTERM", 15), SignalKind::terminate()),
            (Told("SIGHUP", 1), SignalKind::hangup()),
        ];
        Self(kinds.into_iter().filter_map(|(told, kind)| Some((told, signal(kind).ok()?))).collect())
    }

    async fn next(&mut self) -> Told {
        poll_fn(|context| {
            let told =
                self.0.iter_mut().find_map(|(told, signal)| signal.poll_recv(context).is_ready().then_some(*told));
            told.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Told {
    /// The exit status by which shells know a program that a signal ended.
    fn end(self) -> ExitCode {
        println!("\n{}: ending everything that was started", self.0);
        ExitCode::from(128 + self.1)
    }
}
