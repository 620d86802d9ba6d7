//! Starting and stopping as a whole.

use gantry::{app::App, config::Config};
use gantry_harness::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_cannot_use_one_data_directory() {
    let host = TestHost::start().await;
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: host.data_dir().to_owned(),
        ..Config::default()
    };
    let second = App::start(config).await.map(|app| app.address);
    let reason = format!("{:#}", second.unwrap_err());
    assert!(
        reason.contains("another host uses the data directory"),
        "{reason}"
    );
    host.get("/livez").await.assert_status(200);
    // The first one gives it free when it stops.
    host.restart().await.get("/livez").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_taken_port_leaves_nothing_behind() {
    let host = TestHost::start().await;
    let dir = host.data_dir().with_file_name("never");
    let config = Config {
        listen: host.app().address,
        data_dir: dir.clone(),
        ..Config::default()
    };
    let second = App::start(config).await.map(|app| app.address);
    assert!(format!("{:#}", second.unwrap_err()).contains("is another program there?"));
    assert!(!dir.exists());
}
