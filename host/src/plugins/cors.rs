//! Which pages of other origins may call a route (CORS): exact origins, decided when the table is made. What the operator
//! says stands in the place of what the manifest says.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ids::PluginName;
use crate::plugins::manifest::Cors;

/// Request headers that pages may send where nothing else is said.
const HEADERS: &str =
    "authorization, content-type, idempotency-key, if-match, if-none-match, prefer, x-api-key";
/// Answer headers that pages may read where nothing else is said.
const EXPOSED: &str = "deprecation, etag, idempotency-replayed, link, location, preference-applied, ratelimit, ratelimit-policy, \
                       retry-after, sunset, x-gantry-mock, x-request-id";
/// What pages need beside that to send files and to read parts of them, if they may call at all.
const OF_FILES: [&str; 2] = [
    "content-disposition, if-range, range, tus-resumable, upload-checksum, upload-defer-length, upload-length, \
     upload-metadata, upload-offset",
    "accept-ranges, content-disposition, content-location, content-range, last-modified, repr-digest, tus-extension, \
     tus-max-size, tus-resumable, tus-version, upload-defer-length, upload-expires, upload-length, upload-metadata, \
     upload-offset",
];
/// How long browsers may remember where nothing else is said.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Most origins of one rule.
pub const ORIGINS_MAX: usize = 100;
/// Longest time that browsers may remember.
pub const MAX_AGE_MAX: Duration = Duration::from_secs(86_400);

/// What the operator says of pages of other origins.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorCors {
    /// The plugin that this is for. Default: all that no other entry names.
    pub plugin: Option<PluginName>,
    /// Origins that may call, exact: `https://app.example.com`; `*` for all, without credentials. Default: none.
    pub origins: Vec<String>,
    /// Request headers that their pages may send. Default: those that APIs need.
    pub headers: Vec<String>,
    /// Answer headers that their pages may read. Default: those that APIs need.
    pub expose: Vec<String>,
    /// Whether cookies and client certificates come with their requests. Default: false.
    pub credentials: bool,
    /// How long browsers may remember a preflight, in seconds, at most 86400. Default: 600.
    pub max_age_s: Option<u64>,
}

/// The decision for one route.
#[derive(Debug, Clone)]
pub struct CorsPolicy {
    origins: Origins,
    pub credentials: bool,
    pub headers: HeaderValue,
    pub expose: HeaderValue,
    pub max_age: HeaderValue,
}

#[derive(Debug, Clone)]
enum Origins {
    Any,
    These(Vec<HeaderValue>),
}

impl CorsPolicy {
    /// What pages of this origin are told; nothing if they may not call.
    pub fn allows(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(origins) => origins.iter().find(|known| *known == origin).cloned(),
        }
    }

    /// Whether the answer is the same for all origins.
    pub fn is_for_all(&self) -> bool {
        matches!(self.origins, Origins::Any)
    }

    /// The decision for a route: of the operator, else of its manifest; nothing if neither says anything.
    pub(super) fn of(
        plugin: &PluginName,
        manifest: Option<&Cors>,
        operator: &[OperatorCors],
    ) -> Result<Option<Self>, String> {
        let named = operator
            .iter()
            .find(|rule| rule.plugin.as_ref() == Some(plugin));
        let rule = named.or_else(|| operator.iter().find(|rule| rule.plugin.is_none()));
        match (rule, manifest) {
            (Some(rule), _) => rule.policy().map(Some),
            (None, Some(cors)) => Self::of_manifest(cors).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The decision for a route of files, which has headers of its own.
    pub(super) fn with_files(mut self) -> Self {
        for (known, more) in [&mut self.headers, &mut self.expose]
            .into_iter()
            .zip(OF_FILES)
        {
            let text = format!("{}, {more}", known.to_str().unwrap_or_default());
            if let Ok(value) = HeaderValue::try_from(text) {
                *known = value;
            }
        }
        self
    }

    fn of_manifest(cors: &Cors) -> Result<Self, String> {
        Self::new(
            &cors.origins,
            &texts(&cors.headers),
            &texts(&cors.expose),
            cors.credentials,
            cors.max_age,
        )
    }

    fn new(
        origins: &[String],
        headers: &[String],
        expose: &[String],
        credentials: bool,
        max_age: Option<Duration>,
    ) -> Result<Self, String> {
        if origins.len() > ORIGINS_MAX {
            return Err(format!("at most {ORIGINS_MAX} origins"));
        }
        let is_any = origins.iter().any(|origin| origin == "*");
        if is_any && credentials {
            return Err(ANY_WITH_CREDENTIALS.to_owned());
        }
        let origins = if is_any {
            Origins::Any
        } else {
            Origins::These(
                origins
                    .iter()
                    .map(|text| origin(text))
                    .collect::<Result<_, _>>()?,
            )
        };
        let max_age = max_age.unwrap_or(MAX_AGE);
        if max_age > MAX_AGE_MAX {
            return Err("browsers may remember for a day at most".to_owned());
        }
        Ok(Self {
            origins,
            credentials,
            headers: joined(headers, HEADERS)?,
            expose: joined(expose, EXPOSED)?,
            max_age: HeaderValue::from(max_age.as_secs()),
        })
    }
}

impl OperatorCors {
    fn policy(&self) -> Result<CorsPolicy, String> {
        let max_age = self.max_age_s.map(Duration::from_secs);
        CorsPolicy::new(
            &self.origins,
            &self.headers,
            &self.expose,
            self.credentials,
            max_age,
        )
    }
}

/// The first mistake in the operator's rules.
pub fn check(rules: &[OperatorCors]) -> Result<(), String> {
    for (index, rule) in rules.iter().enumerate() {
        let policy = rule.policy();
        policy.map_err(|error| format!("`plugins.cors` {}: {error}", index + 1))?;
        if rules[..index]
            .iter()
            .any(|other| other.plugin == rule.plugin)
        {
            return Err(format!(
                "`plugins.cors` {}: there is another one for the same plugins",
                index + 1
            ));
        }
    }
    Ok(())
}

/// What is wrong with `*` and credentials together.
pub const ANY_WITH_CREDENTIALS: &str =
    "`*` cannot be with `credentials`: name the origins whose pages may act for their users";

/// An origin as browsers send it. The error is a sentence.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let shown: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
    let mistake = |help: String| format!("`{shown}` is not an origin: {help}");
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        return Err(mistake(
            "write for example `https://app.example.com`".to_owned(),
        ));
    };
    let plain = url.origin().ascii_serialization();
    if plain != text || text.contains('*') {
        return Err(mistake(format!(
            "browsers send `{}`",
            plain.replace('*', "app")
        )));
    }
    HeaderValue::from_str(text).map_err(|_| mistake("it has letters that no header has".to_owned()))
}

fn texts(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn joined(names: &[String], default: &'static str) -> Result<HeaderValue, String> {
    if names.is_empty() {
        return Ok(HeaderValue::from_static(default));
    }
    for name in names {
        let name: String = name.chars().take(64).collect();
        HeaderName::try_from(&name)
            .map_err(|_| format!("`{}` is not the name of a header", name.escape_debug()))?;
    }
    let text = names.join(", ").to_ascii_lowercase();
    HeaderValue::try_from(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_send_and_nothing_that_looks_like_it() {
        for text in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://app.example.com:8443",
        ] {
            assert!(origin(text).is_ok(), "{text}");
        }
        for text in [
            "null",
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://*.example.com",
            "https://APP.example.com",
            "https://app.example.com:443",
            "https://u@app.example.com",
            "file:///etc",
            "https://app.example.com\n",
            "chrome-extension://abc",
            "https://ä.example",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_operator_says_stands_in_the_place_of_the_manifest() {
        let (shop, bar): (PluginName, PluginName) =
            ("shop".parse().unwrap(), "bar".parse().unwrap());
        let rule = |plugin: Option<&PluginName>, origins: &[&str]| OperatorCors {
            plugin: plugin.cloned(),
            origins: origins.iter().map(|text| (*text).to_owned()).collect(),
            ..OperatorCors::default()
        };
        let cors = Cors {
            origins: vec!["https://a.example".to_owned()],
            ..Cors::default()
        };
        let allowed = |plugin: &PluginName,
                       manifest: Option<&Cors>,
                       rules: &[OperatorCors],
                       from: &'static str| {
            let policy = CorsPolicy::of(plugin, manifest, rules).unwrap();
            policy.map(|policy| policy.allows(&HeaderValue::from_static(from)).is_some())
        };
        assert_eq!(allowed(&shop, None, &[], "https://a.example"), None);
        assert_eq!(
            allowed(&shop, Some(&cors), &[], "https://a.example"),
            Some(true)
        );
        let rules = [rule(None, &[]), rule(Some(&shop), &["https://b.example"])];
        assert_eq!(
            allowed(&shop, Some(&cors), &rules, "https://a.example"),
            Some(false)
        );
        assert_eq!(
            allowed(&shop, Some(&cors), &rules, "https://b.example"),
            Some(true)
        );
        assert_eq!(
            allowed(&bar, Some(&cors), &rules, "https://a.example"),
            Some(false)
        );
        for wrong in [
            vec![OperatorCors {
                credentials: true,
                ..rule(None, &["*"])
            }],
            vec![rule(None, &["null"])],
            vec![rule(Some(&shop), &[]), rule(Some(&shop), &[])],
            vec![OperatorCors {
                headers: vec!["a b".to_owned()],
                ..rule(None, &[])
            }],
            vec![OperatorCors {
                max_age_s: Some(86_401),
                ..rule(None, &[])
            }],
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
