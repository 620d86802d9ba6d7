//! What the host should hold after each call, and so what it should answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::SETTING;
use super::calls::{ECHO, READ, WRITE};

/// What the host should hold.
#[derive(Default)]
pub(super) struct Model {
    entries: BTreeMap<String, Stored>,
    /// What was last written into the table, if anything.
    cells: BTreeMap<i64, (Value, Value)>,
    pub(super) cursors: Vec<String>,
    /// For which purpose and subject each was signed.
    pub(super) tokens: Vec<[String; 3]>,
}

struct Stored {
    value: Vec<u8>,
    version: Option<String>,
}

fn is_key(key: &str) -> bool {
    (1..=512).contains(&key.len()) && !key.contains('\0')
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

impl Model {
    pub(super) fn check(&mut self, call: &Value, result: &Value, about: &str) {
        match text(&call["call"]) {
            "kv_get" => {
                let expected = self.entry(text(&call["key"]));
                assert_eq!(self.read(result), expected, "{about}: {result}");
            }
            "kv_get_many" => {
                let keys: Vec<&str> = call["keys"].as_array().unwrap().iter().map(text).collect();
                if keys.len() > 100 {
                    assert_eq!(result["code"], "kv.too_many_keys", "{about}");
                } else if keys.iter().all(|key| is_key(key)) {
                    let found = result["ok"].as_array().expect(about);
                    let found: Vec<_> = found.iter().map(of_entry).collect();
                    let expected: Vec<_> = keys
                        .iter()
                        .map(|key| self.entries.get(*key).map(|entry| entry.value.clone()))
                        .collect();
                    assert_eq!(found, expected, "{about}");
                } else {
                    assert_eq!(result["code"], "kv.key_invalid", "{about}");
                }
            }
            "kv_put" => self.put(call, result, about),
            "kv_delete" => self.delete(call, result, about),
            "kv_increment" => self.increment(call, result, about),
            "kv_keys" => self.keys(call, result, about),
            "kv_open" if call["label"] == "data" => assert_eq!(result["ok"], Value::Null),
            "sql_open" if call["label"] == "main" => assert_eq!(result["ok"], Value::Null),
            "kv_open" | "sql_open" => assert_eq!(result["code"], "capability.not_granted"),
            "sql" => self.sql(call, result, about),
            "config_get" if call["key"] == "odd" => assert_eq!(result["ok"], SETTING, "{about}"),
            "config_get" => assert_eq!(result, &json!({ "ok": null }), "{about}"),
            "config_all" => assert_eq!(result["ok"], json!([["odd", SETTING]]), "{about}"),
            "log" => assert_eq!(result, &json!({ "ok": null }), "{about}"),
            "secret" if call["label"] == "key" => {
                let value = json!("s\u{e9}cret".as_bytes());
                assert_eq!(result["ok"]["value"], value, "{about}: {result}");
            }
            "secret" => assert_eq!(result["code"], "capability.not_granted", "{about}"),
            "sign" => {
                let (purpose, subject) = (text(&call["purpose"]), text(&call["subject"]));
                let ttl_ms = call["ttl_ms"].as_u64().unwrap();
                let code = match () {
                    () if !(1..=64).contains(&purpose.len()) => "token.purpose_invalid",
                    () if !(1..=256).contains(&subject.len()) => "token.subject_invalid",
                    () if !(1..=400 * 24 * 3_600_000).contains(&ttl_ms) => "token.ttl_invalid",
                    () => "",
                };
                assert_eq!(result["code"].as_str().unwrap_or(""), code, "{about}");
                if let Some(token) = result["ok"].as_str().filter(|_| ttl_ms > 1_000_000) {
                    self.tokens
                        .push([purpose, subject, token].map(str::to_owned));
                }
            }
            "verify" => {
                let (purpose, token) = (text(&call["purpose"]), text(&call["token"]));
                let signed = |known: &&[String; 3]| known[0] == purpose && known[2] == token;
                match self.tokens.iter().find(signed) {
                    Some(known) => assert_eq!(result["ok"], known[1], "{about}: {result}"),
                    None => assert_eq!(result["kind"], "denied", "{about}: {result}"),
                }
            }
            "context" => {
                assert_eq!(result["ok"]["may"], false, "nobody has logged in");
                assert!(result["ok"].is_object(), "{about}: {result}");
            }
            "send" => {
                let was_told = result["word"].is_string() || result["ok"]["status"].is_number();
                assert!(was_told, "{about}: {result}");
            }
            other => panic!("nobody checks `{other}`"),
        }
    }

    fn entry(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        if !is_key(key) {
            return Err("kv.key_invalid".to_owned());
        }
        Ok(self.entries.get(key).map(|entry| entry.value.clone()))
    }

    fn read(&self, result: &Value) -> Result<Option<Vec<u8>>, String> {
        match result["code"].as_str() {
            Some(code) => Err(code.to_owned()),
            None => Ok(of_entry(&result["ok"])),
        }
    }

    pub(super) fn version_of(&self, key: &str) -> Option<&str> {
        self.entries.get(key)?.version.as_deref()
    }

    fn put(&mut self, call: &Value, result: &Value, about: &str) {
        let key = text(&call["key"]);
        let value: Vec<u8> = serde_json::from_value(call["value"].clone()).unwrap();
        let wanted = call["if_version"].as_str();
        let is_there = self.entries.contains_key(key);
        let code = match () {
            () if !is_key(key) => "kv.key_invalid",
            () if value.len() > 20_000 => "kv.value_too_large",
            () if is_there && call["if_absent"] == true => "kv.exists",
            () if wanted.is_some() && wanted != self.version_of(key) => "kv.version_mismatch",
            () => "",
        };
        assert_eq!(
            result["code"].as_str().unwrap_or(""),
            code,
            "{about}: {result}"
        );
        if code.is_empty() {
            let version = Some(text(&result["ok"]).to_owned());
            let stored = Stored { value, version };
            if call["ttl_ms"] == 0 {
                self.entries.remove(key);
            } else {
                self.entries.insert(key.to_owned(), stored);
            }
        }
    }

    fn delete(&mut self, call: &Value, result: &Value, about: &str) {
        let key = text(&call["key"]);
        let wanted = call["if_version"].as_str();
        let expected = match () {
            () if !is_key(key) => json!("kv.key_invalid"),
            () if wanted.is_some() && wanted != self.version_of(key) => {
                json!("kv.version_mismatch")
            }
            () => json!(self.entries.remove(key).is_some()),
        };
        let found = result.get("code").or(result.get("ok")).unwrap();
        assert_eq!(*found, expected, "{about}: {result}");
    }

    fn increment(&mut self, call: &Value, result: &Value, about: &str) {
        let key = text(&call["key"]);
        let delta = call["delta"].as_i64().unwrap();
        let before = match self.entries.get(key) {
            None => Some(0),
            Some(entry) => std::str::from_utf8(&entry.value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok()),
        };
        let expected = match before {
            _ if !is_key(key) => json!("kv.key_invalid"),
            None => json!("kv.not_a_number"),
            Some(before) => match before.checked_add(delta) {
                Some(sum) => json!(sum),
                None => json!("kv.number_overflow"),
            },
        };
        let found = result.get("code").or(result.get("ok")).unwrap();
        assert_eq!(*found, expected, "{about}: {result}");
        if let Some(sum) = expected.as_i64() {
            let stored = Stored {
                value: sum.to_string().into_bytes(),
                version: None,
            };
            if call["ttl_ms"] == 0 {
                self.entries.remove(key);
            } else {
                self.entries.insert(key.to_owned(), stored);
            }
        }
    }

    fn keys(&mut self, call: &Value, result: &Value, about: &str) {
        let (prefix, max) = (text(&call["prefix"]), call["max"].as_u64().unwrap());
        let after = call["cursor"].as_str();
        if !(1..=1000).contains(&max) {
            assert_eq!(result["code"], "kv.page_size_invalid", "{about}");
            return;
        }
        if prefix.len() > 512 || prefix.contains('\0') {
            assert_eq!(result["code"], "kv.key_invalid", "{about}");
            return;
        }
        if after.is_some_and(|after| self.cursors.iter().all(|cursor| cursor != after)) {
            assert_eq!(result["code"], "kv.cursor_invalid", "{about}: {result}");
            return;
        }
        // A cursor is the last key of its page; what it looks like is the host's.
        let found: Vec<String> = serde_json::from_value(result["ok"]["keys"].clone()).expect(about);
        let all = self.entries.keys().filter(|key| key.starts_with(prefix));
        let mut all: Vec<&String> = all.collect();
        if after.is_none() {
            let has_more = all.len() as u64 > max;
            all.truncate(usize::try_from(max).unwrap());
            assert_eq!(found.iter().collect::<Vec<_>>(), all, "{about}");
            assert_eq!(result["ok"]["cursor"].is_string(), has_more, "{about}");
        } else {
            assert!(
                found.iter().all(|key| all.contains(&key)),
                "{about}: {found:?}"
            );
            assert!(found.is_sorted(), "{about}: {found:?}");
        }
        if let Some(cursor) = result["ok"]["cursor"].as_str() {
            self.cursors.push(cursor.to_owned());
        }
    }

    fn sql(&mut self, call: &Value, result: &Value, about: &str) {
        let (params, sql) = (call["params"].as_array().unwrap(), text(&call["sql"]));
        let is_any_nan = params.iter().any(is_nan);
        match sql {
            WRITE if is_any_nan => assert_eq!(result["code"], "sql.value_invalid", "{about}"),
            WRITE => {
                assert!(result["ok"].is_object(), "{about}: {result}");
                let n = params[0]["integer"].as_i64().unwrap();
                self.cells.insert(n, (params[1].clone(), params[2].clone()));
            }
            READ => {
                let n = params[0]["integer"].as_i64().unwrap();
                let rows = result["ok"]["rows"].as_array().expect(about);
                let Some((cell, flag)) = self.cells.get(&n) else {
                    assert!(rows.is_empty(), "{about}: {rows:?}");
                    return;
                };
                assert!(
                    is_same(cell, &rows[0][0], false),
                    "{about}: {cell} {rows:?}"
                );
                assert!(is_same(flag, &rows[0][1], true), "{about}: {flag} {rows:?}");
            }
            ECHO if is_any_nan => assert_eq!(result["code"], "sql.value_invalid", "{about}"),
            ECHO => {
                let row = &result["ok"]["rows"][0];
                for place in 0..2 {
                    let (sent, got) = (&params[place], &row[place]);
                    assert!(is_same(sent, got, false), "{about}: {row}");
                }
            }
            _ => {
                let was_told = result["code"].is_string() || result["ok"].is_object();
                assert!(was_told, "{about}: {result}");
            }
        }
    }
}

fn is_nan(cell: &Value) -> bool {
    cell["real"]
        .as_u64()
        .is_some_and(|bits| f64::from_bits(bits).is_nan())
}

/// SQLite has no booleans, but for columns that are declared so; and one zero.
fn is_same(sent: &Value, got: &Value, is_declared_boolean: bool) -> bool {
    let number = match (sent["boolean"].as_bool(), sent["integer"].as_i64()) {
        (Some(flag), _) => Some(i64::from(flag)),
        (None, number) => number,
    };
    match number {
        Some(number @ (0 | 1)) if is_declared_boolean => got["boolean"] == (number == 1),
        Some(number) => got["integer"] == number,
        None if sent["real"].is_u64() && is_declared_boolean => true,
        None if sent["real"] == (-0.0_f64).to_bits() => {
            got["real"] == 0 || got["real"] == (-0.0_f64).to_bits()
        }
        // Text that reads like a number becomes one in such a column.
        None if is_declared_boolean && sent["text"].is_string() => true,
        None => sent == got,
    }
}

fn of_entry(entry: &Value) -> Option<Vec<u8>> {
    let value = entry.get("value")?.clone();
    Some(serde_json::from_value(value).unwrap())
}
