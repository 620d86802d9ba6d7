//! What a plugin may answer: everything that is no response of HTTP is the plugin's fault, and nobody else's.

use gantry_harness::{Process, guests::guest, pack};
use http::Method;
use serde_json::json;

use super::assert_well;
use crate::manifests;
use crate::random::Random;

const CASES: u32 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_plugin_answers_the_client_gets_that_or_is_told_that_the_plugin_failed() {
    let server = Process::start("").await;
    let bundle = pack(&manifests::open("answers"), &guest("answers"), &[]);
    server.upload("", bundle).await.assert_status(201);
    let mut random = Random::new(1);
    let (mut passed_on, mut refused) = (0, 0);
    for case in 0..CASES {
        let status = match random.below(6) {
            0 => random.below(65_536),
            1 => random.below(300),
            2 => 590 + random.below(20),
            _ => *random.one(&[&200, &204, &304, &404, &503]),
        };
        let headers: Vec<(String, String)> = match random.below(8) {
            0 => many(&mut random),
            1 => vec![(
                "x-long".to_owned(),
                "y".repeat(random.below(100_000) as usize),
            )],
            _ => (0..random.below(5)).map(|_| header(&mut random)).collect(),
        };
        let body_bytes = match random.below(30) {
            0 => random.below(16 << 20),
            _ => random.below(2000),
        };
        let wish = json!({ "status": status, "headers": headers, "body_bytes": body_bytes });
        let request = server.request(Method::POST, "/answers/").json(&wish);
        let answer = request.send().await.expect("an answer");
        let (got, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.expect("a whole body");
        let ids = headers.get_all("x-request-id").iter().count();
        assert_eq!(ids, 1, "case {case}: {wish}");
        let code = b"plugin.invalid_response";
        if got == 502 && body.windows(code.len()).any(|bytes| bytes == code) {
            assert!(!headers.contains_key("set-cookie"), "case {case}: {wish}");
            refused += 1;
        } else {
            assert_eq!(u32::from(got.as_u16()), status, "case {case}: {wish}");
            assert!((200..600).contains(&status), "case {case}: {wish}");
            let has_no_body = matches!(status, 204 | 304);
            let length = if has_no_body { 0 } else { body_bytes as usize };
            assert_eq!(body.len(), length, "case {case}: {wish}");
            passed_on += 1;
        }
    }
    assert!(
        passed_on > 100 && refused > 100,
        "{passed_on} and {refused}"
    );
    assert_well(&server).await;
}

/// Few enough for the client, which takes no more than a hundred with those of the host, or more than the host passes on.
fn many(random: &mut Random) -> Vec<(String, String)> {
    let number = match random.is_one_of(2) {
        true => random.below(90),
        false => 101 + random.below(300),
    };
    (0..number)
        .map(|n| (format!("x-{n}"), "y".to_owned()))
        .collect()
}

fn header(random: &mut Random) -> (String, String) {
    let names = [
        "x-plain",
        "content-type",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "x-request-id",
        "location",
        "content-encoding",
        "trailer",
        "x name",
        "",
        "x-\u{e9}",
        "x:y",
        ":status",
        "set-cookie\r\nx",
    ];
    let values = [
        "y",
        "",
        " ",
        "0",
        "18446744073709551616",
        "chunked",
        "close",
        "a\r\nset-cookie: evil=1",
        "a\nb",
        "\0",
        "\u{7f}",
        "caf\u{e9} \u{1f980}",
        "a, b; c=\"d",
    ];
    // Most are plain, so that not all answers are wrong.
    let name = if random.is_one_of(3) {
        random.one(&names)
    } else {
        "x-plain"
    };
    let value = if random.is_one_of(3) {
        random.one(&values)
    } else {
        "y"
    };
    (name.to_owned(), value.to_owned())
}
