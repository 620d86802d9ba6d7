//! `limits` of a route: how often it may be called, by whom, and how many of its calls may be in progress.

use std::{collections::HashMap, fmt, ops::Range, time::Duration};

use http::HeaderName;
use toml::Spanned;

use super::reader::{Fields, Reader, clip, read_flag, refuse_duplicates};
use super::route::{Auth, choice};
use crate::condition::{Expression, TEXT_BYTES_MAX, Variable};
use crate::limits::{Algorithm, Fail};

/// What a rate limit counts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The address of the client.
    Ip,
    /// The account of the caller.
    User,
    /// The API key of the caller.
    ApiKey,
    /// All callers of the route together.
    Route,
    /// The value of a header, by its name in small letters. Requests without it count by their address.
    Header(HeaderName),
    /// The value of an expression (CEL). Requests for which it has none count by their address.
    Expression(String),
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::User => "user",
            Self::ApiKey => "api-key",
            Self::Route => "route",
            Self::Header(_) => "header",
            Self::Expression(_) => "expression",
        })
    }
}

/// One policy on how often a route may be called, or how many of its calls may be in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Unique within the route; shown to clients. Default: the key.
    pub name: String,
    /// Whether the author gave the name: then all routes that name it share one count, and agree on everything below but
    /// the cost.
    pub is_shared: bool,
    /// How it is added up.
    pub algorithm: Algorithm,
    /// Calls per window, or in progress.
    pub limit: u64,
    /// Whole seconds, because clients are told seconds. Nothing of calls in progress.
    pub window: Option<Duration>,
    /// Calls that may come at once after a quiet time. Default: the limit.
    pub burst: Option<u64>,
    /// Whose calls are counted together.
    pub key: RateKey,
    /// How much one call of this route takes.
    pub cost: u32,
    /// Whether it only counts and tells, and refuses nobody.
    pub is_shadow: bool,
    /// What it does while the server that hosts share cannot be reached; nothing means what the operator says.
    pub fail: Option<Fail>,
}

/// Limits by the names that their author gave them, each with the place of its first.
pub(super) type Shared = HashMap<String, (usize, RateLimit)>;

const RATE_LIMITS_MAX: usize = 8;
const CALLS_MAX: i64 = 1_000_000_000;
const IN_PROGRESS_MAX: i64 = 100_000;
const COST_MAX: i64 = 1_000_000;
/// What an entry may say of its time, and one with `concurrent` may not.
const OF_WINDOWS: [&str; 5] = ["limit", "window", "burst", "algorithm", "cost"];

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Words for `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Ip,
    User,
    ApiKey,
    Route,
    Header,
    Expression,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::User => "user",
            Self::ApiKey => "api-key",
            Self::Route => "route",
            Self::Header => "header",
            Self::Expression => "expression",
        })
    }
}

/// The `limits` of one route.
pub(super) fn read_all(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    auth: Option<Auth>,
    shared: &mut Shared,
) -> Vec<RateLimit> {
    let mut limits = Vec::new();
    // Whether some limit counts by what clients cannot choose.
    let mut is_bounded = false;
    let mut chosen = None;
    for fields in fields.tables(reader, "limits", "`limits`", RATE_LIMITS_MAX) {
        let at = fields.span();
        let Some(limit) = read(reader, fields, auth) else {
            // What is wrong with it has been said.
            is_bounded = true;
            continue;
        };
        if is_chosen_by_clients(&limit.key) {
            chosen = chosen.or(Some((at.clone(), limit.key.to_string())));
        } else if !limit.is_shadow && limit.window.is_some() {
            is_bounded = true;
        }
        if limit.is_shared {
            agree(reader, &at, &limit, shared);
        }
        limits.push((at, limit));
    }
    if let (Some((at, key)), false) = (chosen, is_bounded) {
        let message = format!(
            "`key = \"{key}\"` counts by what clients choose, so each can have as many counts as it likes"
        );
        let help = "add a limit with the key `ip`, `user`, `api-key` or `route` to this route, or count by `claims` alone";
        reader.mistake_with_help(at, message, help);
    }
    let names = limits
        .iter()
        .map(|(at, limit)| (at.clone(), limit.name.as_str()));
    refuse_duplicates(reader, "the limit", names);
    limits.into_iter().map(|(_, limit)| limit).collect()
}

/// One entry.
fn read(
    reader: &mut Reader<'_>,
    mut fields: Fields<'_, '_>,
    auth: Option<Auth>,
) -> Option<RateLimit> {
    let at = fields.span();
    let is_concurrency = fields.has("concurrent");
    for key in ["limit", "window"] {
        if !is_concurrency && !fields.has(key) {
            let help = "for example `limits = [{ limit = 100, window = \"15m\", key = \"ip\" }]`";
            let message = format!("`{key}` is missing in `limits`");
            reader.mistake_with_help(at.clone(), message, help);
        }
    }
    for key in OF_WINDOWS {
        if is_concurrency && fields.has(key) {
            let message = format!("`{key}` says nothing of calls in progress");
            let help = "write two limits, one of them with `concurrent`";
            reader.mistake_with_help(at.clone(), message, help);
        }
    }
    let name = fields.string(reader, "name", 32);
    if let Some(name) = &name
        && !is_policy_name(name.get_ref())
    {
        let message = "the name of a limit has small letters, digits and hyphens only";
        reader.mistake(name.span(), message);
    }
    let concurrent = fields.integer(reader, "concurrent", 1..=IN_PROGRESS_MAX);
    let limit = fields.integer(reader, "limit", 1..=CALLS_MAX);
    let window = fields.duration(reader, "window", SECOND..=DAY);
    if let Some(window) = &window
        && window.get_ref().subsec_millis() != 0
    {
        reader.mistake(window.span(), "`window` must be whole seconds");
    }
    let algorithm = fields.string(reader, "algorithm", 32);
    let algorithm = match &algorithm {
        Some(text) => {
            let known = [
                Algorithm::TokenBucket,
                Algorithm::FixedWindow,
                Algorithm::SlidingWindow,
            ];
            choice(reader, "algorithm", text, &known)
        }
        None if is_concurrency => Some(Algorithm::Concurrency),
        None => Some(Algorithm::TokenBucket),
    };
    let burst = fields.integer(reader, "burst", 1..=CALLS_MAX);
    if let (Some(burst), Some(Algorithm::FixedWindow | Algorithm::SlidingWindow)) =
        (&burst, algorithm)
    {
        let message = "`burst` is for the algorithm `token-bucket`";
        reader.mistake(burst.span(), message);
    }
    let cost = fields.integer(reader, "cost", 1..=COST_MAX);
    let count = |number: &Spanned<i64>| number.get_ref().unsigned_abs();
    let most = burst.as_ref().or(limit.as_ref()).map(count);
    if let (Some(cost), Some(most)) = (&cost, most)
        && count(cost) > most
    {
        let message = format!("`cost` is more than {most}: no call would ever be let through");
        reader.mistake(cost.span(), message);
    }
    let key = read_key(reader, &mut fields, auth);
    let is_shadow = read_flag(reader, &mut fields, "shadow").unwrap_or(false);
    let fail = fields.string(reader, "fail", 32).and_then(|text| {
        let known = [Fail::Local, Fail::Open, Fail::Closed];
        choice(reader, "fail", &text, &known)
    });
    fields.finish(reader, &[], &[("per", "did you mean `window`?")]);
    let key = key?;
    Some(RateLimit {
        is_shared: name.is_some(),
        name: match name {
            Some(name) => (*name.get_ref()).to_owned(),
            None if is_concurrency => format!("{key}-concurrent"),
            None => key.to_string(),
        },
        algorithm: algorithm?,
        limit: count(&concurrent.or(limit)?),
        window: if is_concurrency {
            None
        } else {
            Some(window?.into_inner())
        },
        burst: burst.as_ref().map(count),
        key,
        cost: cost.map_or(1, |cost| u32::try_from(count(&cost)).unwrap_or(u32::MAX)),
        is_shadow,
        fail,
    })
}

/// Nothing if it is wrong, which has been said.
fn read_key(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    auth: Option<Auth>,
) -> Option<RateKey> {
    let header = fields.string(reader, "header", 64);
    let expression = fields.string(reader, "expression", TEXT_BYTES_MAX);
    let text = fields.string(reader, "key", 32);
    let known = [
        Word::Ip,
        Word::User,
        Word::ApiKey,
        Word::Route,
        Word::Header,
        Word::Expression,
    ];
    let word = match &text {
        Some(text) => choice(reader, "key", text, &known)?,
        None if fields.has("key") => return None,
        None if fields.has("header") => Word::Header,
        None if fields.has("expression") => Word::Expression,
        None => Word::Ip,
    };
    for (key, of) in [("header", Word::Header), ("expression", Word::Expression)] {
        if fields.has(key) != (word == of) {
            let message = format!("`{key}` and `key = \"{key}\"` stand together or not at all");
            reader.mistake(fields.span(), message);
            return None;
        }
    }
    let at = text.map_or_else(|| fields.span(), |text| text.span());
    let is_public = auth == Some(Auth::Public);
    match word {
        Word::Ip => Some(RateKey::Ip),
        Word::Route => Some(RateKey::Route),
        Word::User | Word::ApiKey => {
            if is_public {
                let message =
                    format!("`key = \"{word}\"` has nobody to count with `auth = \"public\"`");
                reader.mistake_with_help(at, message, "write `key = \"ip\"`");
            }
            let is_user = word == Word::User;
            Some(if is_user {
                RateKey::User
            } else {
                RateKey::ApiKey
            })
        }
        Word::Header => {
            let text = header?;
            match HeaderName::try_from(*text.get_ref()) {
                Ok(name) if !is_credential(&name) => Some(RateKey::Header(name)),
                Ok(_) => {
                    let message = "credentials are not counted by";
                    let help = "write `key = \"user\"` or `key = \"api-key\"`";
                    reader.mistake_with_help(text.span(), message, help);
                    None
                }
                Err(_) => {
                    let message = format!("`{}` is no name of a header", clip(text.get_ref()));
                    reader.mistake(text.span(), message);
                    None
                }
            }
        }
        Word::Expression => {
            let text = expression?;
            match Expression::compile(text.get_ref()) {
                Ok(expression) if is_public && expression.uses(Variable::Claims) => {
                    let message = "`claims` are empty with `auth = \"public\"`";
                    let help = "write `auth = \"required\"` or `auth = \"optional\"`";
                    reader.mistake_with_help(text.span(), message, help);
                    None
                }
                Ok(_) => Some(RateKey::Expression((*text.get_ref()).to_owned())),
                Err(error) => {
                    reader.mistake(text.span(), format!("`expression`: {error}"));
                    None
                }
            }
        }
    }
}

/// Whether a client can have another key by sending something else.
fn is_chosen_by_clients(key: &RateKey) -> bool {
    match key {
        RateKey::Ip | RateKey::User | RateKey::ApiKey | RateKey::Route => false,
        RateKey::Header(_) => true,
        RateKey::Expression(text) => Expression::compile(text).is_ok_and(|expression| {
            let chosen = Variable::ALL.into_iter();
            chosen
                .filter(|variable| *variable != Variable::Claims)
                .any(|variable| expression.uses(variable))
        }),
    }
}

fn is_credential(name: &HeaderName) -> bool {
    let names = [
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
    ];
    names.contains(&name.as_str())
}

/// Routes that name the same limit must mean the same by it.
fn agree(reader: &mut Reader<'_>, at: &Range<usize>, limit: &RateLimit, shared: &mut Shared) {
    let of_any_cost = RateLimit {
        cost: 1,
        ..limit.clone()
    };
    let (first, same) = shared
        .entry(limit.name.clone())
        .or_insert_with(|| (at.start, of_any_cost.clone()));
    if *same != of_any_cost {
        let line = reader.location(*first).line;
        let message = format!(
            "the limit `{}` is another one than in line {line}",
            limit.name
        );
        let help = "routes that name a limit share it: give all the same `limit`, `window`, `burst` and `key`, or \
                    this one another name";
        reader.mistake_with_help(at.clone(), message, help);
    }
}

fn is_policy_name(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::manifest::Manifest;

    const OTHER: &str = "{ limit = 100, window = \"1m\", key = \"route\" }";

    fn parse(auth: &str, limits: &str) -> Result<Manifest, String> {
        let text = format!(
            "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n\
             [[route]]\nmethod = \"GET\"\npath = \"/{{kind}}\"\nauth = \"{auth}\"\nlimits = [{limits}]\n"
        );
        Manifest::parse(&text).map_err(|mistakes| {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            mistakes.join("\n")
        })
    }

    #[test]
    fn whatever_a_limit_says_is_understood() {
        let limits = format!(
            "{{ limit = 9, window = \"1m\", algorithm = \"sliding-window\", cost = 3, shadow = true, fail = \"open\" }}, \
             {{ concurrent = 5, key = \"user\" }}, {{ name = \"t\", limit = 1, window = \"1h\", header = \"X-Tenant\" }}, \
             {{ limit = 1, window = \"1h\", expression = \"claims.sub\" }}, {OTHER}"
        );
        let manifest = parse("required", &limits).unwrap();
        let [sliding, running, header, expression, _] = &manifest.routes[0].limits[..] else {
            panic!("{:?}", manifest.routes[0].limits);
        };
        assert_eq!(sliding.algorithm, Algorithm::SlidingWindow);
        assert_eq!((sliding.cost, sliding.is_shadow), (3, true));
        assert_eq!(sliding.fail, Some(Fail::Open));
        assert_eq!((&*running.name, running.limit), ("user-concurrent", 5));
        assert_eq!(running.algorithm, Algorithm::Concurrency);
        assert_eq!(running.window, None);
        let tenant = HeaderName::from_static("x-tenant");
        assert_eq!(header.key, RateKey::Header(tenant));
        assert_eq!(expression.name, "expression");
        let routes = format!(
            "{{ name = \"all\", limit = 5, window = \"1m\" }}]\n[[route]]\nmethod = \"GET\"\npath = \"/y\"\n\
             limits = [{{ name = \"all\", limit = 5, window = \"1m\", cost = 2 }}, {OTHER}"
        );
        assert!(parse("public", &routes).is_ok());
    }

    #[test]
    fn what_could_not_be_kept_is_a_mistake() {
        for (auth, limits, told) in [
            (
                "public",
                "{ concurrent = 5, limit = 5 }",
                "`limit` says nothing of calls",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", algorithm = \"leaky\" }",
                "`algorithm` cannot be \"leaky\"",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", algorithm = \"fixed-window\", burst = 9 }",
                "`burst` is for",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", cost = 6 }",
                "no call would ever be let through",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", key = \"header\" }",
                "`header` and `key = \"header\"` stand together",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", key = \"ip\", header = \"x-tenant\" }",
                "stand together or not at all",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", header = \"x-tenant\" }",
                "counts by what clients choose",
            ),
            (
                "required",
                "{ limit = 5, window = \"1m\", expression = \"claims.sub + query.x\" }",
                "counts by what clients choose",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", header = \"x-api-key\" }",
                "credentials are not counted by",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", expression = \"params.\" }",
                "`expression`: ",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", expression = \"claims.sub\" }",
                "`claims` are empty",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", shadow = 1 }",
                "`shadow` must be true or false",
            ),
            (
                "public",
                "{ limit = 5, window = \"1m\", fail = \"maybe\" }",
                "`fail` cannot be \"maybe\"",
            ),
        ] {
            let mistakes = parse(auth, limits).unwrap_err();
            assert!(mistakes.contains(told), "{limits}: {mistakes}");
        }
    }
}
