//! Extractors: what a handler may take as an argument.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::pairs::{self, Pairs};
use crate::{Error, Request, Result};

/// A part of a request that a handler can take as an argument.
///
/// Write your own for what all your handlers check first:
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// struct Locale(String);
///
/// impl FromRequest for Locale {
///     fn from_request(request: &mut Request) -> Result<Self> {
///         Ok(Locale(request.header("accept-language").unwrap_or_else(|| "en".into())))
///     }
/// }
///
/// fn greet(Locale(locale): Locale) -> &'static str {
///     if locale.starts_with("fr") { "Bonjour" } else { "Hello" }
/// }
/// # let _ = Router::new().get("/greet", greet);
/// ```
pub trait FromRequest: Sized {
    /// The part, or the problem to answer.
    fn from_request(request: &mut Request) -> Result<Self>;
}

/// The body as JSON, and a response as JSON.
///
/// 415 `request.unsupported_media_type` if `content-type` is not JSON, 400 `request.invalid_json` if the body is not
/// JSON at all, 422 `request.invalid_body` if it is not what the type wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The parameters of the path: one value, a tuple in the order of the pattern, or a struct by name.
///
/// 400 `request.invalid_path` if a parameter is not what the type wants.
///
/// ```
/// # use gantry_sdk::prelude::*;
/// fn one(Path(id): Path<u64>) {}
/// fn two(Path((list, todo)): Path<(String, u64)>) {}
/// # let _ = (one, two);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<T>(pub T);

/// The query as a struct. A field that is a list takes every parameter of its name; `Option` and
/// `#[serde(default)]` make a parameter optional.
///
/// 400 `request.invalid_query` if a parameter is missing or not what the type wants.
///
/// ```
/// # use gantry_sdk::prelude::*;
/// #[derive(Deserialize)]
/// struct Page {
///     #[serde(default)]
///     offset: u32,
///     limit: Option<u32>,
///     #[serde(default)]
///     tag: Vec<String>,
/// }
/// fn list(Query(page): Query<Page>) -> String {
///     format!("{} {:?} {:?}", page.offset, page.limit, page.tag)
/// }
/// # let _ = list;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<T>(pub T);

/// The body as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl FromRequest for Request {
    /// Takes the whole request; so let it be the last argument.
    fn from_request(request: &mut Request) -> Result<Self> {
        Ok(std::mem::take(request))
    }
}

impl<T: DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        // A browser sends forms and plain text to other sites unasked, but never this type: the check also keeps
        // forged requests of a foreign page out.
        let content_type = request.header("content-type").unwrap_or_default();
        if !is_json(&content_type) {
            let message = "send the body as JSON, with `content-type: application/json`";
            return Err(Error::new(415, "request.unsupported_media_type", message));
        }
        json(&request.body).map(Json)
    }
}

impl<T: DeserializeOwned> FromRequest for Path<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        let params = request.path_params();
        let result = T::deserialize(Pairs::new(&params)).map(Path);
        request.params = Some(params);
        result.map_err(|error| mistake("request.invalid_path", &error))
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        T::deserialize(Pairs::new(&query_pairs(&request.query)))
            .map(Query)
            .map_err(|error| mistake("request.invalid_query", &error))
    }
}

impl FromRequest for Bytes {
    fn from_request(request: &mut Request) -> Result<Self> {
        Ok(Self(std::mem::take(&mut request.body)))
    }
}

impl FromRequest for Vec<u8> {
    fn from_request(request: &mut Request) -> Result<Self> {
        Ok(std::mem::take(&mut request.body))
    }
}

impl FromRequest for String {
    /// The body as text; 400 `request.invalid_text` if it is not UTF-8.
    fn from_request(request: &mut Request) -> Result<Self> {
        String::from_utf8(std::mem::take(&mut request.body))
            .map_err(|_| Error::bad_request("request.invalid_text", "the body is not UTF-8"))
    }
}

/// A problem that names the parameter, where it is one.
fn mistake(code: &'static str, error: &pairs::Error) -> Error {
    let problem = Error::bad_request(code, error.to_string());
    match &error.name {
        Some(name) => problem.with_field(name.as_str(), "invalid", error.message.as_str()),
        None => problem,
    }
}

pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Error::new(422, "request.invalid_body", error.to_string()),
        _ => Error::bad_request("request.invalid_json", error.to_string()),
    })
}

/// The decoded parameters of a query, in their order.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect()
}

pub(crate) fn decode_path(text: &str) -> String {
    decode(text, false)
}

/// `application/json` or `application/…+json`, with or without parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence
            .get(essence.len().saturating_sub(5)..)
            .is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// Percent-decoding; `+` is a space only in a query. What is no valid escape stays as it is.
fn decode(text: &str, is_query: bool) -> String {
    if !text
        .bytes()
        .any(|byte| byte == b'%' || (is_query && byte == b'+'))
    {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = match byte {
            b'%' => bytes.get(at + 1).zip(bytes.get(at + 2)),
            _ => None,
        };
        match escape.and_then(|(high, low)| Some((digit(*high)?, digit(*low)?))) {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            None => {
                decoded.push(if is_query && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8(decoded)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
