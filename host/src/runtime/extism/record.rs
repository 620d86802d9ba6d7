//! Requests and responses as JSON, for modules whose only way in and out is one run of bytes.

use std::{borrow::Cow, fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use crate::runtime::{CallContext, Config, HttpCall, PluginSpec, response};

/// What a handler is given.
#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    /// Below the mount.
    path: &'a str,
    query: &'a str,
    /// The pattern of the route.
    route: Option<&'a str>,
    #[serde(serialize_with = "as_object")]
    params: &'a [(String, String)],
    headers: Headers<'a>,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// The body, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    request_id: String,
    client_address: Option<IpAddr>,
    principal: Option<Principal<'a>>,
}

#[derive(Serialize)]
struct Principal<'a> {
    id: &'a str,
    kind: &'a str,
    name: &'a str,
    /// Those of this plugin, by its own names for them.
    permissions: Vec<&'a str>,
}

/// The request as a handler reads it.
pub(super) fn request(
    call: &HttpCall,
    bytes: &Bytes,
    context: &CallContext,
    plugin: &PluginSpec,
) -> Bytes {
    let body = std::str::from_utf8(bytes).ok();
    let principal = context.principal.as_deref().map(|principal| Principal {
        id: &principal.id,
        kind: principal.kind.as_str(),
        name: &principal.name,
        permissions: principal
            .permissions
            .of_plugin(&plugin.name)
            .into_iter()
            .collect(),
    });
    let request = Request {
        method: call.method.as_str(),
        path: call.path(),
        query: call.uri.query().unwrap_or_default(),
        route: context.route.as_deref(),
        params: &context.path_params,
        headers: Headers(&context.headers),
        body,
        body_base64: body.is_none().then(|| STANDARD.encode(bytes)),
        request_id: context.request_id.to_string(),
        client_address: context.client_address,
        principal,
    };
    // Nothing in it can fail: all keys are text.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

fn as_object<S: Serializer>(pairs: &&[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// An object of names in small letters and values; what came several times is one value, as RFC 9110 joins them.
struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.keys().map(|name| {
            let mut values = self.0.get_all(name).iter();
            let first = values.next().map_or(Cow::Borrowed(""), |value| text(value));
            let separator = if name == header::COOKIE { "; " } else { ", " };
            let joined = values.fold(first, |mut joined, value| {
                joined.to_mut().push_str(separator);
                joined.to_mut().push_str(&text(value));
                joined
            });
            (name.as_str(), joined)
        }))
    }
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// What a handler answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response<'a> {
    status: Option<u16>,
    #[serde(default)]
    headers: Pairs,
    #[serde(default, borrow)]
    body: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    body_base64: Option<Cow<'a, str>>,
}

/// The response that a handler wrote. The error is the reason, for people.
pub(super) fn response(output: &[u8], config: &Config) -> Result<http::Response<Bytes>, String> {
    let invalid = |error: serde_json::Error| format!("it is not a response in JSON: {error}");
    let response: Response<'_> = serde_json::from_slice(output).map_err(invalid)?;
    let (content_type, body) = match (response.body, response.body_base64) {
        (Some(_), Some(_)) => return Err("it has both `body` and `body_base64`".to_owned()),
        (Some(body), None) => (
            Some("text/plain; charset=utf-8"),
            body.into_owned().into_bytes(),
        ),
        (None, Some(body)) => {
            let body = STANDARD.decode(body.as_bytes());
            let body = body.map_err(|_| "its `body_base64` is not base64".to_owned())?;
            (Some("application/octet-stream"), body)
        }
        (None, None) => (None, Vec::new()),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in response.headers.0 {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            return Err("one of its headers has characters that are not allowed".to_owned());
        };
        headers.append(name, value);
    }
    if let (Some(content_type), false) = (content_type, headers.contains_key(header::CONTENT_TYPE))
    {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let status = response.status.unwrap_or(200);
    response::finish(status, headers, body.into(), config)
}

/// Most pairs that are read before anything is counted. Of those that are left, `response` allows fewer.
const PAIRS_MAX: usize = 1000;

/// Headers as an object; a value is a text, or a list of them for a header that comes several times.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers, at most 1000")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, values)) = map.next_entry::<String, Values>()? {
                    for value in values.0 {
                        pairs.push((name.clone(), value));
                    }
                    if pairs.len() > PAIRS_MAX {
                        return Err(serde::de::Error::invalid_length(pairs.len(), &self));
                    }
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Object)
    }
}

struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of at most 1000 texts")
            }

            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                    if values.len() > PAIRS_MAX {
                        return Err(serde::de::Error::invalid_length(values.len(), &self));
                    }
                }
                Ok(Values(values))
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<http::Response<Bytes>, String> {
        response(text.as_bytes(), &Config::default())
    }

    #[test]
    fn a_response_has_a_status_headers_and_one_body() {
        let answer = read(
            r#"{"status":201,"headers":{"X-A":"1","set-cookie":["a=1","b=2"]},"body":"h\u00e9"}"#,
        )
        .unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["x-a"], "1");
        assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(
            answer.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        assert_eq!(answer.body(), "hé");

        let answer = read(r#"{"body_base64":"AP8="}"#).unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/octet-stream");
        assert_eq!(answer.body().as_ref(), [0, 255]);

        let answer = read("{}").unwrap();
        assert!(answer.body().is_empty() && answer.headers().is_empty());
    }

    #[test]
    fn what_is_no_response_is_refused_with_its_reason() {
        let many: Vec<String> = (0..2000).map(|n| format!("\"h{n}\":\"\"")).collect();
        let many = format!("{{\"headers\":{{{}}}}}", many.join(","));
        for (text, reason) in [
            ("", "it is not a response in JSON: EOF"),
            ("hello", "it is not a response in JSON"),
            ("[]", "it is not a response in JSON"),
            (r#"{"statusCode":200}"#, "unknown field `statusCode`"),
            (r#"{"status":99}"#, "its status is not between 200 and 599"),
            (r#"{"status":70000}"#, "it is not a response in JSON"),
            (r#"{"body":"a","body_base64":""}"#, "it has both"),
            (r#"{"body_base64":"?"}"#, "is not base64"),
            (
                r#"{"headers":{"a b":"c"}}"#,
                "characters that are not allowed",
            ),
            (
                r#"{"headers":{"a":"b\r\nc: d"}}"#,
                "characters that are not allowed",
            ),
            (r#"{"headers":{"a":1}}"#, "a text or a list"),
            (&many, "at most 1000"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(reason), "{text:.60}: {told}");
        }
    }
}
