//! Bundles that are damaged: in their manifests, their signatures and their bytes.

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use gantry_harness::{Process, guests::guest};
use rusqlite::{Connection, OpenFlags};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::assert_well;
use crate::manifests;
use crate::random::Random;

const CASES: u32 = 500;
const MORE: &str = r#"
[capabilities]
kv = ["carts"]
sql = [{ label = "main", migrations = "migrations/" }]
http = [{ host = "api.example.com", methods = ["GET"], reason = "to look" }]

[limits]
memory = "32MiB"
cpu = "200ms"

[config.properties.size]
type = "integer"
default = 5

[[permission]]
name = "orders.write"

[[test]]
name = "it answers"
request = "GET /"
status = 200
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bundle_is_refused_or_deployed_and_never_half_of_it() {
    let server = Process::start("[plugins]\ntests = \"off\"").await;
    let wasm = guest("hello-v1");
    let manifest = manifests::with("hello", MORE);
    let step: &[u8] = b"CREATE TABLE steps (n INTEGER PRIMARY KEY);";
    let whole = zip(&manifest, b"", step, &wasm);
    server
        .upload("grant=all", whole.clone())
        .await
        .assert_status(201);
    let mut random = Random::new(2);
    let (mut deployed, mut refused) = (0, 0);
    for case in 0..CASES {
        let bundle = match random.below(8) {
            0 => Bytes::from(damaged(&whole, &mut random)),
            1 => {
                let signature = signature(&mut random);
                zip(&manifest, &signature, step, &wasm)
            }
            2 => zip(&manifest, b"", &damaged(step, &mut random), &wasm),
            3 => {
                // Only its head: the rest is for the compiler's own tests.
                let mut wasm = wasm.to_vec();
                let place = random.place(400);
                wasm[place] = random.byte();
                zip(&manifest, b"", step, &wasm)
            }
            _ => {
                let mut text = manifest.clone();
                for _ in 0..=random.below(3) {
                    text = reworded(&text, &mut random);
                }
                zip(&text, b"", step, &wasm)
            }
        };
        let before = counts(&server);
        let answer = server.upload("grant=all&nested=true", bundle).await;
        let status = answer.status.as_u16();
        assert!(
            status < 500,
            "case {case}: {} {}",
            answer.status,
            answer.text()
        );
        let after = counts(&server);
        if status >= 400 {
            assert_eq!(before, after, "case {case}: {}", answer.text());
            refused += 1;
        } else {
            assert_eq!(before.1 + 1, after.1, "case {case}: {}", answer.text());
            deployed += 1;
        }
    }
    assert!(deployed > 5 && refused > 100, "{deployed} and {refused}");
    assert_well(&server).await;
    let server = server.kill_and_restart().await;
    assert_well(&server).await;
    let unwanted = rows(&server, "SELECT count(*) FROM unwanted_data");
    assert_eq!(unwanted, 0, "what failed is removed at the latest now");
}

fn rows(server: &Process, sql: &str) -> u32 {
    let file = server.data_dir().join("gantry.db");
    let rows = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    rows.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Plugins and deployments.
fn counts(server: &Process) -> (u32, u32) {
    (
        rows(server, "SELECT count(*) FROM plugins"),
        rows(server, "SELECT coalesce(max(rowid), 0) FROM deployments"),
    )
}

fn zip(manifest: &str, signature: &[u8], step: &[u8], wasm: &[u8]) -> Bytes {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let files: [(&str, &[u8]); 4] = [
        ("plugin.toml", manifest.as_bytes()),
        ("plugin.sig", signature),
        ("migrations/main/0001_steps.sql", step),
        ("plugin.wasm", wasm),
    ];
    for (name, bytes) in files {
        if !bytes.is_empty() {
            writer
                .start_file(name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
    }
    writer.finish().unwrap().into_inner().into()
}

fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let place = random.place(bytes.len());
        match random.below(4) {
            0 => bytes[place] = random.byte(),
            1 => bytes.truncate(place),
            2 => {
                let more = random.bytes(40);
                bytes.splice(place..place, more);
            }
            _ => {
                let end = (place + random.place(60)).min(bytes.len());
                bytes.drain(place..end);
            }
        }
    }
    bytes
}

/// The same manifest with one thing in it that is different.
fn reworded(text: &str, random: &mut Random) -> String {
    let words = [
        "0",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "1e400",
        "nan",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"\u{1f980}\\u0000\"",
        "'''",
        "\"/{a}/{a}\"",
        "\"/{*rest}/x\"",
        "\"/{\"",
        "\"//\"",
        "\"99999999GiB\"",
        "\"-5ms\"",
        "\"1.0.0-\u{3b2}\"",
        "\"../../etc/passwd\"",
        "2026-01-01T00:00:00Z",
        "= =",
        "\u{feff}",
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let place = random.place(lines.len());
    match random.below(6) {
        0 => drop(lines.remove(place)),
        1 => lines.insert(place, lines[random.place(lines.len())].clone()),
        2 => lines.swap(place, random.place(text.lines().count())),
        _ => {
            let line = &mut lines[place];
            let word = random.one(&words);
            match line.split_once('=') {
                Some((key, _)) => *line = format!("{key}= {word}"),
                None => line.push_str(word),
            }
        }
    }
    lines.join("\n")
}

fn signature(random: &mut Random) -> Vec<u8> {
    let likely = b"gantry-signature 1\nkey ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\
                   sig AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n";
    match random.below(3) {
        0 => {
            let mut bytes = random.bytes(300);
            bytes.push(b'x');
            bytes
        }
        _ => {
            let mut bytes = damaged(likely, random);
            bytes.push(b'\n');
            bytes
        }
    }
}
