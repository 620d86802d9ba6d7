//! What expressions can ask about a request.

use std::{collections::HashMap, fmt};

use cel::{Value, objects::Key};
use http::{HeaderMap, Method, header};
use serde_json::Value as Json;
use url::form_urlencoded;

/// Most parameters of a query that expressions look at. With more of them an expression fails.
const QUERY_MAX: usize = 200;
/// Deepest nesting of claims.
const DEPTH_MAX: usize = 16;
/// Headers that say who is calling. Expressions see claims in their place.
const CREDENTIALS: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
];

/// A name that expressions can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// Who is calling; empty of a caller without credentials.
    Claims,
    /// Parameters of the path, by name.
    Params,
    /// Parameters of the query, by name.
    Query,
    /// Headers, by name in small letters, without credentials.
    Headers,
    /// The HTTP method.
    Method,
    /// The path, from its first `/`.
    Path,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Claims,
        Self::Params,
        Self::Query,
        Self::Headers,
        Self::Method,
        Self::Path,
    ];

    /// As expressions name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Params => "params",
            Self::Query => "query",
            Self::Headers => "headers",
            Self::Method => "method",
            Self::Path => "path",
        }
    }
}

/// What is known about a request. Only what an expression uses is made into values.
pub struct Facts<'a> {
    /// Gives the claims of the caller; an object.
    pub claims: &'a dyn Fn() -> Json,
    pub params: &'a [(String, String)],
    /// As it stands behind the `?`.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub method: &'a Method,
    pub path: &'a str,
}

impl Facts<'_> {
    pub(super) fn value(&self, variable: Variable) -> Result<Value, String> {
        Ok(match variable {
            Variable::Claims => value((self.claims)(), 0)?,
            Variable::Params => {
                let params = self.params.iter();
                let params: HashMap<Key, Value> = params
                    .map(|(name, value)| (Key::from(name.as_str()), Value::from(value.as_str())))
                    .collect();
                params.into()
            }
            Variable::Query => self.query()?,
            Variable::Headers => self.headers(),
            Variable::Method => self.method.as_str().into(),
            Variable::Path => self.path.into(),
        })
    }

    /// A name that stands twice has no value: the plugin may take the one that the expression has not seen.
    fn query(&self) -> Result<Value, String> {
        let mut values: HashMap<Key, Value> = HashMap::new();
        let query = self.query.unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if values.len() == QUERY_MAX {
                return Err(format!("the query has more than {QUERY_MAX} parameters"));
            }
            let earlier = values.insert(name.into_owned().into(), value.into_owned().into());
            if earlier.is_some() {
                return Err("the query has a parameter twice".to_owned());
            }
        }
        Ok(values.into())
    }

    fn headers(&self) -> Value {
        let mut values: HashMap<Key, Value> = HashMap::new();
        for name in self.headers.keys() {
            let is_credential = CREDENTIALS.contains(&name.as_str()) || *name == header::SET_COOKIE;
            if is_credential {
                continue;
            }
            let lines = self.headers.get_all(name).iter();
            let lines: Vec<_> = lines
                .map(|line| String::from_utf8_lossy(line.as_bytes()))
                .collect();
            values.insert(name.as_str().into(), lines.join(", ").into());
        }
        values.into()
    }
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn value(json: Json, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err("the claims are nested too deeply".to_owned());
    }
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        // Literals of expressions are signed, and so are these, as far as they fit.
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => text.into(),
        Json::Array(list) => {
            let values: Result<Vec<Value>, String> = list
                .into_iter()
                .map(|item| value(item, depth + 1))
                .collect();
            values?.into()
        }
        Json::Object(object) => {
            let mut values: HashMap<Key, Value> = HashMap::with_capacity(object.len());
            for (name, item) in object {
                values.insert(name.into(), value(item, depth + 1)?);
            }
            values.into()
        }
    })
}
