//! `soak`: what `cargo xtask soak` runs.

use std::process::ExitCode;
use std::time::Duration;

use e2e::soak::Soak;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let minutes = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(5.0),
        ["--minutes", minutes] => minutes.parse::<f64>().ok().filter(|minutes| (0.0..=1440.0).contains(minutes)),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("soak: say how long, such as `--minutes 5`");
        return ExitCode::from(2);
    };
    println!("two Envoys with two workers each, two bridges, a Redis Cluster of six; {minutes} minutes");
    let soak = Soak { time: Duration::from_secs_f64(minutes * 60.0), pause: Duration::from_secs(2) };
    match soak.run().await {
        Ok(report) => {
            print!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}
