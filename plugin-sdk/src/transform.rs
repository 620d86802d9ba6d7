//! Transformations: one document in, one document out.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::transformation::exports::gantry::transform::transform as wit;
use crate::{Error, Result};

/// Bytes and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The bytes.
    pub body: Vec<u8>,
    /// A media type, for example `application/json`.
    pub content_type: String,
}

impl Document {
    /// Bytes or text of a media type.
    pub fn new(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            content_type: content_type.into(),
        }
    }

    /// A value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::new("application/json", serde_json::to_vec(value)?))
    }

    /// The body as text; 422 `transform.invalid_input` if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).map_err(|_| invalid("the document is not UTF-8"))
    }

    /// The body as JSON; 422 `transform.invalid_input` if it is not what the type wants.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| invalid(error.to_string()))
    }
}

/// A function that `#[gantry_sdk::transform]` can go on: from a type to a type (JSON) or from [`Document`] to
/// [`Document`], each with or without a second argument for the parameters.
pub trait Transformation<Arguments> {
    /// Turns one document into another; `params` is a JSON object.
    fn call(&self, input: Document, params: &str) -> Result<Document>;
}

impl<F, T, U> Transformation<fn(T) -> U> for F
where
    F: Fn(T) -> Result<U>,
    T: DeserializeOwned,
    U: Serialize,
{
    fn call(&self, input: Document, _params: &str) -> Result<Document> {
        Document::json(&self(input.parse()?)?)
    }
}

impl<F, T, P, U> Transformation<fn(T, P) -> U> for F
where
    F: Fn(T, P) -> Result<U>,
    T: DeserializeOwned,
    P: DeserializeOwned,
    U: Serialize,
{
    fn call(&self, input: Document, params: &str) -> Result<Document> {
        Document::json(&self(input.parse()?, parse_params(params)?)?)
    }
}

impl<F> Transformation<(Document,)> for F
where
    F: Fn(Document) -> Result<Document>,
{
    fn call(&self, input: Document, _params: &str) -> Result<Document> {
        self(input)
    }
}

impl<F, P> Transformation<(Document, P)> for F
where
    F: Fn(Document, P) -> Result<Document>,
    P: DeserializeOwned,
{
    fn call(&self, input: Document, params: &str) -> Result<Document> {
        self(input, parse_params(params)?)
    }
}

/// What `#[gantry_sdk::transform]` calls.
pub fn transform<A>(
    input: wit::Document,
    params: &str,
    transformation: &impl Transformation<A>,
) -> Result<wit::Document, crate::__rt::WitError> {
    let wit::Document { body, content_type } = input;
    let output = transformation.call(Document { body, content_type }, params);
    #[cfg(target_family = "wasm")]
    crate::stdio::flush();
    let Document { body, content_type } = output.map_err(Error::into_wit)?;
    Ok(wit::Document { body, content_type })
}

fn parse_params<P: DeserializeOwned>(params: &str) -> Result<P> {
    let params = if params.is_empty() { "{}" } else { params };
    serde_json::from_str(params)
        .map_err(|error| Error::new(422, "transform.invalid_params", error.to_string()))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(422, "transform.invalid_input", message)
}
