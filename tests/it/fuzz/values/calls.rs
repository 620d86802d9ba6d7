//! Calls with values that are valid, odd or hostile.

use serde_json::{Value, json};

use super::model::Model;
use crate::random::Random;
use crate::services::remote::Remote;

pub(super) const WRITE: &str = "INSERT OR REPLACE INTO cells (n, cell, flag) VALUES ($1, $2, $3)";
pub(super) const READ: &str = "SELECT cell, flag FROM cells WHERE n = $1";
pub(super) const ECHO: &str = "SELECT $1, $2";

pub(super) fn call(random: &mut Random, model: &Model, remote: &Remote) -> Value {
    match random.below(19) {
        0 => json!({ "call": "kv_open", "label": label(random, "data") }),
        1 => json!({ "call": "kv_get", "key": key(random) }),
        2 => {
            let keys: Vec<String> = match random.is_one_of(10) {
                true => (0..101).map(|n| n.to_string()).collect(),
                false => (0..random.below(5)).map(|_| key(random)).collect(),
            };
            json!({ "call": "kv_get_many", "keys": keys })
        }
        3..=5 => {
            let key = key(random);
            let version = version(random, model.version_of(&key));
            let is_long = random.is_one_of(20);
            let bytes = match is_long {
                true => vec![b'v'; 19_990 + random.below(20) as usize],
                false => random.bytes(60),
            };
            let value = match random.below(3) {
                0 => number(random).to_string().into_bytes(),
                _ => bytes,
            };
            json!({
                "call": "kv_put", "key": key, "value": value, "ttl_ms": ttl(random),
                "if_absent": random.is_one_of(4), "if_version": version,
            })
        }
        6 => {
            let key = key(random);
            let version = version(random, model.version_of(&key));
            json!({ "call": "kv_delete", "key": key, "if_version": version })
        }
        7 => json!({
            "call": "kv_increment", "key": key(random), "delta": number(random), "ttl_ms": ttl(random),
        }),
        8 => {
            let cursor = match random.below(4) {
                0 => Some(odd_text(random)),
                1 => model.cursors.last().cloned(),
                _ => None,
            };
            let max = *random.one(&[&0_u32, &1, &2, &3, &1000, &1001, &u32::MAX]);
            let prefix = match random.is_one_of(2) {
                true => String::new(),
                false => odd_text(random),
            };
            json!({ "call": "kv_keys", "prefix": prefix, "cursor": cursor, "max": max })
        }
        9 => json!({ "call": "sql_open", "label": label(random, "main") }),
        10..=12 => statement(random),
        13 => match random.is_one_of(4) {
            true => json!({ "call": "config_all" }),
            false => json!({ "call": "config_get", "key": label(random, "odd") }),
        },
        14 => json!({
            "call": "log", "level": random.byte(), "context": odd_text(random), "message": odd_text(random),
        }),
        15 => json!({ "call": "secret", "label": label(random, "key") }),
        16 => match model.tokens.last() {
            Some([purpose, _, token]) if random.is_one_of(3) => {
                json!({ "call": "verify", "purpose": purpose, "token": token })
            }
            _ if random.is_one_of(3) => {
                json!({ "call": "verify", "purpose": odd_text(random), "token": odd_text(random) })
            }
            _ => {
                let ttls = [
                    &0,
                    &1,
                    &2_000_000,
                    &34_560_000_000,
                    &34_560_000_001,
                    &u64::MAX,
                ];
                let ttl_ms = *random.one(&ttls);
                let (purpose, subject) = (odd_text(random), odd_text(random));
                json!({ "call": "sign", "purpose": purpose, "subject": subject, "ttl_ms": ttl_ms })
            }
        },
        17 => match random.below(4) {
            0 => json!({ "call": "headers" }),
            1 => json!({ "call": "header", "name": "X-Odd" }),
            2 => json!({ "call": "header", "name": odd_text(random) }),
            _ => {
                json!({ "call": "context", "param": odd_text(random), "permission": odd_text(random) })
            }
        },
        _ => outgoing(random, remote),
    }
}

fn statement(random: &mut Random) -> Value {
    let (mut in_transaction, mut writes) = (random.is_one_of(3), random.is_one_of(2));
    let n = json!({ "integer": random.below(6) });
    let (sql, params) = match random.below(4) {
        0 => {
            writes = true;
            (WRITE.to_owned(), vec![n, cell(random), cell(random)])
        }
        1 => {
            writes = false;
            (READ.to_owned(), vec![n])
        }
        2 => {
            (writes, in_transaction) = (false, random.is_one_of(2));
            (ECHO.to_owned(), vec![cell(random), cell(random)])
        }
        _ => {
            let pieces = [
                "SELECT ",
                "VALUES (",
                ")",
                "$1",
                "$2",
                ", ",
                "cell ",
                "FROM cells ",
                "WHERE n = ",
                "'",
                "\"",
                "--",
                "/*",
                "*/",
                ";",
                "\0",
                "\u{1f980}",
                "x'ff'",
                "CAST(x'ff' AS TEXT)",
                "1e999",
                "-9223372036854775808",
                "9223372036854775808",
                "abs(",
                "zeroblob(",
                "EXPLAIN ",
                "WITH x AS (",
                "LIMIT ",
                "ORDER BY 1 ",
                "PRAGMA ",
                "sqlite_master ",
                "printf('%*d', ",
                "json('",
                "NULL ",
                "UNION ALL ",
                "randomblob(",
                "load_extension(",
                "?1",
                ":a",
                "0.0/0.0",
            ];
            let begin = ["SELECT ", "SELECT 1 ", "", "EXPLAIN SELECT "];
            let mut sql = random.one(&begin).to_owned();
            for _ in 0..random.below(8) {
                sql.push_str(random.one(&pieces));
            }
            let params = (0..random.below(3)).map(|_| cell(random)).collect();
            (sql, params)
        }
    };
    json!({
        "call": "sql", "sql": sql, "params": params, "writes": writes, "in_transaction": in_transaction,
    })
}

fn cell(random: &mut Random) -> Value {
    match random.below(6) {
        0 => json!("null"),
        1 => json!({ "boolean": random.is_one_of(2) }),
        2 => json!({ "integer": number(random) }),
        3 => {
            let reals = [
                &0.0,
                &-0.0,
                &1.5,
                &f64::NAN,
                &f64::INFINITY,
                &f64::NEG_INFINITY,
                &f64::MAX,
                &f64::MIN_POSITIVE,
                &5e-324,
                &9_007_199_254_740_993.0,
                &0.1,
            ];
            let real: f64 = *random.one(&reals);
            json!({ "real": real.to_bits() })
        }
        4 => json!({ "text": odd_text(random) }),
        _ => json!({ "blob": random.bytes(40) }),
    }
}

fn number(random: &mut Random) -> i64 {
    let numbers = [
        &0,
        &1,
        &-1,
        &7,
        &i64::MAX,
        &i64::MIN,
        &(1 << 53),
        &((1 << 53) + 1),
    ];
    *random.one(&numbers)
}

fn ttl(random: &mut Random) -> Option<u64> {
    // Those between nothing and a day could end while the test runs.
    let times = [
        &0,
        &86_400_000,
        &(1 << 62),
        &i64::MAX.unsigned_abs(),
        &u64::MAX,
    ];
    random.is_one_of(3).then(|| *random.one(&times))
}

fn version(random: &mut Random, right: Option<&str>) -> Option<String> {
    match random.below(8) {
        0 => Some(odd_text(random)),
        1 | 2 => right.map(str::to_owned),
        _ => None,
    }
}

fn label(random: &mut Random, right: &str) -> String {
    match random.is_one_of(2) {
        true => right.to_owned(),
        false => format!("{}!", odd_text(random)),
    }
}

/// One of a few, so that calls meet one another, or an odd one.
fn key(random: &mut Random) -> String {
    match random.below(3) {
        0 => odd_text(random),
        _ => format!("k{}", random.below(6)),
    }
}

fn odd_text(random: &mut Random) -> String {
    let texts = [
        "",
        " ",
        "k",
        "a\0b",
        "\u{1f980}\u{0301}",
        "\u{feff}\u{202e}",
        "\u{10ffff}",
        "line\r\nline",
        "' OR 1=1 --",
        "%00%ff",
        "../../etc/passwd",
        "{\"a\":1}",
        "\u{1b}[31m",
        "k\u{e9}",
        "-0",
        "+5",
        "AAAA",
    ];
    match random.below(12) {
        0 => "x".repeat(*random.one(&[&64, &65, &255, &256, &257, &511, &512, &513, &5000])),
        1 => "\u{e9}".repeat(*random.one(&[&32, &33, &128, &129, &256, &257])),
        _ => random.one(&texts).to_owned(),
    }
}

pub(super) fn path(random: &mut Random) -> String {
    (0..=random.below(3))
        .map(|_| path_piece(random))
        .collect::<Vec<_>>()
        .join("/")
}

pub(super) fn path_piece(random: &mut Random) -> String {
    let pieces = [
        "a",
        "%20",
        "%00",
        "%c3%a9",
        "%F0%9F%A6%80",
        "a+b",
        "a;v=1",
        "~",
        "a=%26",
        "(x)",
        "%25",
    ];
    (0..=random.below(3)).map(|_| random.one(&pieces)).collect()
}

/// What may stand in a header, UTF-8 or not. Space at its ends belongs to nobody.
pub(super) fn header(random: &mut Random) -> Vec<u8> {
    let pieces: [&[u8]; 7] = [
        b"plain",
        b"a, b; c=\"d\"",
        "caf\u{e9} \u{1f980}".as_bytes(),
        b"\xff\xfe",
        b"\xc3",
        b"x\ty",
        b"%00",
    ];
    let pieces: Vec<&[u8]> = (0..random.below(4)).map(|_| random.one(&pieces)).collect();
    pieces.concat()
}

fn outgoing(random: &mut Random, remote: &Remote) -> Value {
    let address = remote.address.to_string();
    let methods = [
        "GET", "POST", "BREW", "CONNECT", "TRACE", "", "G T", "get", "\u{e9}",
    ];
    let schemes = [
        Some("http"),
        Some("https"),
        Some("ftp"),
        Some(""),
        Some("h ttp"),
        None,
    ];
    let authorities = [
        "",
        "@",
        ":",
        "[::1",
        "a b",
        "user:pw@example.com",
        "169.254.169.254",
        "localhost:99999",
        "xn--",
        "\u{e9}.example",
        "0x7f.1",
        "example.com:",
        "..",
        "*.example.com",
    ];
    let paths = [
        "/",
        "",
        "x",
        "//",
        "/\0",
        "/ a",
        "/%zz",
        "/?a=\u{e9}",
        "*",
        "/#f",
        "http://other/",
        "/echo",
        "/many-headers",
        "/no-http",
        "/packed-bomb",
        "/echo-and-break",
        "/announced-bomb",
    ];
    let names = [
        "x-a",
        "host",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "",
        "x a",
        "x:y",
        "\u{e9}",
        "authorization",
        "gantry-depth",
        "te",
        ":path",
        "expect",
    ];
    let values: [&[u8]; 8] = [
        b"y",
        b"",
        b"\xff",
        b"a\r\nb: c",
        b"\0",
        b"0",
        b"chunked",
        b"100-continue",
    ];
    let mostly = |random: &mut Random| !random.is_one_of(3);
    let method = if mostly(random) {
        "GET"
    } else {
        random.one(&methods)
    };
    let scheme = if mostly(random) {
        Some("http")
    } else {
        *random.one(&schemes.each_ref())
    };
    let authority = match random.below(6) {
        0 => None,
        1 => Some(random.one(&authorities).to_owned()),
        _ => Some(address),
    };
    let path = if random.is_one_of(8) {
        None
    } else {
        Some(random.one(&paths))
    };
    let headers: Vec<(&str, &[u8])> = (0..random.below(3))
        .map(|_| (random.one(&names), random.one(&values)))
        .collect();
    let times = [
        &None,
        &Some(0),
        &Some(1),
        &Some(1_000_000_000),
        &Some(u64::MAX),
    ];
    let timeouts: Vec<Option<u64>> = match random.is_one_of(3) {
        true => (0..3).map(|_| *random.one(&times)).collect(),
        false => Vec::new(),
    };
    json!({
        "call": "send", "method": method, "scheme": scheme, "authority": authority, "path": path,
        "headers": headers, "body": random.bytes(40), "timeouts_ns": timeouts,
    })
}
