//! Turns a list of JSON objects into CSV (RFC 4180).

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::{Map, Value};

#[derive(Deserialize)]
struct Params {
    /// Comma-separated. Without it: the keys of the first object.
    columns: Option<String>,
}

#[gantry_sdk::transform]
fn to_csv(input: Document, params: Params) -> Result<Document> {
    let rows: Vec<Map<String, Value>> = input.parse()?;
    let columns: Vec<String> = match params.columns {
        Some(columns) => columns
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect(),
        None => rows
            .first()
            .map(|row| row.keys().cloned().collect())
            .unwrap_or_default(),
    };
    let mut csv = line(columns.iter().map(|name| quote(name)));
    for row in &rows {
        csv += &line(columns.iter().map(|name| cell(row.get(name))));
    }
    Ok(Document::new("text/csv; charset=utf-8", csv))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",") + "\r\n"
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quote(text),
        Some(other) => quote(&other.to_string()),
    }
}

fn quote(text: &str) -> String {
    // A spreadsheet would run what begins like a formula.
    let text = match text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err() {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use gantry_sdk::testing::transform;

    use super::*;

    fn csv(input: &str, params: Value) -> Result<String> {
        let output = transform(&to_csv, Document::new("application/json", input), params)?;
        Ok(output.text()?.to_owned())
    }

    #[test]
    fn objects_become_lines() {
        let input = r#"[{"name":"A \"B\", C","n":-1.5},{"n":null,"name":"=1+1"}]"#;

        let csv = csv(input, json!({ "columns": "name, n" })).unwrap();

        assert_eq!(csv, "name,n\r\n\"A \"\"B\"\", C\",-1.5\r\n'=1+1,\r\n");
    }

    #[test]
    fn the_first_object_names_the_columns() {
        assert_eq!(
            csv(r#"[{"b":1,"a":true}]"#, json!({})).unwrap(),
            "a,b\r\ntrue,1\r\n"
        );
        assert_eq!(csv("[]", json!({})).unwrap(), "\r\n");
    }

    #[test]
    fn what_is_no_list_of_objects_is_invalid() {
        let error = csv(r#"{"a":1}"#, json!({})).unwrap_err();

        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Invalid, "transform.invalid_input")
        );
    }
}
