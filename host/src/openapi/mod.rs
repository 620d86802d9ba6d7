//! OpenAPI documents as data: what two of them promise differently, requests for Postman, errors that they tell of, and values that fit a schema. Where
//! documents come from and who may see them is decided elsewhere.

pub mod compare;
pub mod failures;
pub mod postman;
pub mod sample;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

/// What OpenAPI calls methods, in the order in which documents list them.
pub const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

/// Most references that follow one another.
const REFERENCES_MAX: usize = 32;

/// One operation of a document.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// As the document has it.
    pub path: &'a str,
    /// Small letters.
    pub method: &'a str,
    /// What all operations of the path share.
    pub item: &'a Map<String, Value>,
    pub body: &'a Map<String, Value>,
}

/// All operations of a document, in its order.
pub fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = document.get("paths").and_then(Value::as_object);
    paths.into_iter().flatten().flat_map(move |(path, item)| {
        let item = resolve(document, item).as_object();
        METHODS.iter().filter_map(move |method| {
            let item = item?;
            let body = item.get(*method)?.as_object()?;
            Some(Operation {
                path,
                method,
                item,
                body,
            })
        })
    })
}

/// What a value stands for: the value itself, or what its `$ref` leads to in the same document.
pub fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let mut found = value;
    for _ in 0..REFERENCES_MAX {
        let Some(reference) = found.get("$ref").and_then(Value::as_str) else {
            return found;
        };
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| document.pointer(pointer));
        match target {
            Some(target) => found = target,
            None => return found,
        }
    }
    found
}

impl<'a> Operation<'a> {
    /// `GET /orders/{id}`
    pub fn name(&self) -> String {
        format!("{} {}", self.method.to_ascii_uppercase(), self.path)
    }

    /// Its parameters with those of its path, resolved.
    pub fn parameters(&self, document: &'a Value) -> Vec<&'a Map<String, Value>> {
        let of = |map: &'a Map<String, Value>| {
            let list = map.get("parameters").and_then(Value::as_array);
            let list = list.map(Vec::as_slice).unwrap_or_default().iter();
            list.filter_map(|parameter| resolve(document, parameter).as_object())
        };
        let mut own: Vec<_> = of(self.body).collect();
        let key = |map: &Map<String, Value>| (map.get("in").cloned(), map.get("name").cloned());
        let shared: Vec<_> = of(self.item)
            .filter(|shared| own.iter().all(|own| key(own) != key(shared)))
            .collect();
        own.extend(shared);
        own
    }
}

/// A text of a map, or nothing.
fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}
