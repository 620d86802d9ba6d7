//! The mixed load of `cargo xtask bench --only soak` for half a minute: nothing that is not expected comes of a request, and
//! when it is quiet, places, handles and instances are given back.

use std::time::Duration;

use gantry_harness::soak::Soak;

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_load_with_swaps_and_bad_clients_leaves_nothing_behind() {
    let soak = Soak {
        rounds: 2,
        round: Duration::from_secs(10),
        clients: 1,
        pause: Duration::from_millis(50),
        change_pause: Duration::from_millis(200),
    };
    let report = soak.run(|line| println!("{line}")).await.unwrap();
    println!("{report}");
    let leaks = report.leaks();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
