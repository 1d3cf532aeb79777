//! One round of what `cargo xtask soak` does for minutes.

use std::time::Duration;

use e2e::soak::Soak;

/// C1 to C6, C11, in real processes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stale_is_read_while_everything_fails_in_turn() {
    let soak = Soak { time: Duration::from_secs(11), pause: Duration::from_millis(300) };
    let report = soak.run().await.expect("a stage");
    println!("{report}");
    assert!(report.is_good(), "{report}");
}
