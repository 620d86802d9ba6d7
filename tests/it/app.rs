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

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_reads_what_is_in_the_data_folder_whoever_has_made_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data.clone(),
        ..Config::default()
    };
    let app = App::start(config).await.unwrap();
    let mut looked_at = vec![data.clone()];
    looked_at.extend(
        std::fs::read_dir(&data)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    assert!(looked_at.contains(&data.join("gantry.db")));
    for path in looked_at {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
    app.stop().await;
}
