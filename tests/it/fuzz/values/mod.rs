//! Values over the boundary between guest and host, in both directions, that are valid, odd or hostile: what is stored comes
//! back as it was, and the rest is refused in the words of the contract. A model says what the host should answer.

mod calls;
mod model;

use gantry_harness::{Process, guests::guest, pack};
use http::Method;
use serde_json::{Value, json};

use super::assert_well;
use crate::manifests;
use crate::random::Random;
use crate::services::remote::Remote;
use model::{Model, text};

const SEED: u64 = 3;
const PROGRAMS: u32 = 150;
const CALLS_PER_PROGRAM: u32 = 14;
const TABLE: &str = "CREATE TABLE cells (n INTEGER PRIMARY KEY, cell, flag BOOLEAN);";
const SETTING: &str = "a setting with \u{1f980} and \u{0} in it";

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_they_were_or_are_refused_in_the_words_of_the_contract() {
    let remote = Remote::start().await;
    let address = remote.address;
    let settings = format!(
        "[services.outbound]\nallow_private = [\"{address}\"]\nread_ms_max = 500\n\
         first_byte_ms_max = 500\nrequests_per_minute_max = 100000\n[services.kv]\nvalue_bytes_max = 20000"
    );
    let server = Process::start(&settings).await;
    let capabilities = format!(
        "[capabilities]\nkv = [\"data\"]\nsql = [{{ label = \"main\", migrations = \"migrations/\" }}]\n\
         http = [{{ host = \"{address}\", reason = \"a test\" }}]\n\
         [[capabilities.secrets]]\nlabel = \"key\"\nuse = \"reveal\"\n\
         [limits]\ncpu = \"5s\"\nwall = \"20s\"\n\
         [config.properties.odd]\ntype = \"string\"\ndefault = {}\n",
        json!(SETTING)
    );
    let manifest = manifests::with("every-call", &capabilities);
    let files: [(&str, &[u8]); 1] = [("migrations/0001_cells.sql", TABLE.as_bytes())];
    let bundle = pack(&manifest, &guest("every-call"), &files);
    server.upload("grant=all", bundle).await.assert_status(201);
    server.set_secret("every-call", "key", "s\u{e9}cret").await;
    let mut random = Random::new(SEED);
    let mut model = Model::default();
    let mut heads = Vec::new();
    for program in 0..PROGRAMS {
        let calls: Vec<Value> = (0..CALLS_PER_PROGRAM)
            .map(|_| calls::call(&mut random, &model, &remote))
            .collect();
        let path = format!("/{}", calls::path(&mut random));
        let query = calls::path_piece(&mut random);
        let header = calls::header(&mut random);
        let request = server
            .request(Method::POST, &format!("/every-call{path}?{query}"))
            .header("x-odd", header.as_slice())
            .json(&calls);
        let answer = server.send(request).await;
        let about = |place: usize| format!("program {program}: {}", calls[place]);
        assert_eq!(answer.status, 200, "program {program}: {}", answer.text());
        let told: Value = answer.json();
        assert_eq!(told["method"], "POST");
        assert_eq!(told["path"], path, "program {program}");
        assert_eq!(told["query"], query, "program {program}");
        let results = told["results"].as_array().unwrap();
        assert_eq!(results.len(), calls.len());
        for (place, (call, result)) in calls.iter().zip(results).enumerate() {
            heads.push(result["code"].as_str().unwrap_or("ok").to_owned());
            // Every refusal has its words; none of them is "the host failed".
            assert!(result["kind"] != "internal", "{}: {result}", about(place));
            if call["call"] == "header" || call["call"] == "headers" {
                check_header(call, result, &header, &about(place));
            } else {
                model.check(call, result, &about(place));
            }
        }
    }
    heads.sort();
    heads.dedup();
    for code in [
        "ok",
        "kv.key_invalid",
        "kv.version_mismatch",
        "kv.exists",
        "sql.value_invalid",
    ] {
        assert!(heads.iter().any(|head| head == code), "{code}: {heads:?}");
    }
    assert!(heads.len() > 15, "the programs are too tame: {heads:?}");
    assert_well(&server).await;
}

/// A header of the request: text of the contract is UTF-8, and what is not counts as absent.
fn check_header(call: &Value, result: &Value, sent: &[u8], about: &str) {
    let sent = std::str::from_utf8(sent).ok();
    if call["call"] == "headers" {
        let all = result["ok"].as_array().expect(about);
        let odd = all.iter().find(|pair| pair[0] == "x-odd");
        assert_eq!(odd.map(|pair| text(&pair[1])), sent, "{about}");
    } else if text(&call["name"]).eq_ignore_ascii_case("x-odd") {
        assert_eq!(result["ok"].as_str(), sent, "{about}");
    } else {
        assert_eq!(*result, json!({ "ok": null }), "{about}");
    }
}
