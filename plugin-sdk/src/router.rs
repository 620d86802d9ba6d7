//! Finds the handler of a request. The host has matched the route already, by `plugin.toml`; this is the same
//! rule inside the plugin, so that the handler can be a plain function.

use crate::extract::{FromRequest, decode_path};
use crate::{Error, IntoResponse, Request, Response, Result};

/// Something that answers a request. Every function is one whose arguments are extractors (at most six) and whose
/// result is a response.
pub trait Handler<Arguments> {
    /// Answers the request. `Request` as an argument takes it away from the arguments behind it, so it comes last.
    fn call(&self, request: &mut Request) -> Result<Response>;
}

macro_rules! handler {
    ($($argument:ident),*) => {
        impl<F, R, $($argument,)*> Handler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R,
            R: IntoResponse,
            $($argument: FromRequest,)*
        {
            #[allow(non_snake_case, reason = "types name the variables, if there are any")]
            fn call(&self, _request: &mut Request) -> Result<Response> {
                $(let $argument = $argument::from_request(_request)?;)*
                self($($argument),*).into_response()
            }
        }
    };
}
handler!();
handler!(A);
handler!(A, B);
handler!(A, B, C);
handler!(A, B, C, D);
handler!(A, B, C, D, E);
handler!(A, B, C, D, E, G);

/// The routes of a plugin, the same as in its `plugin.toml`.
///
/// A pattern is made of whole segments: fixed ones, parameters `{name}`, and as the last one `{*rest}`, which takes
/// the remaining path (at least one character). Where several patterns fit, a fixed segment wins over a parameter
/// and a parameter over `{*rest}`, in whatever order they were added.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::main]
/// fn app() -> Router {
///     Router::new().get("/hello/{name}", hello).post("/orders", create)
/// }
///
/// fn hello(Path(name): Path<String>) -> String {
///     format!("Hello, {name}!")
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     item: String,
/// }
///
/// fn create(Json(order): Json<Order>) -> Result<(u16, Json<Order>)> {
///     Ok((201, Json(order)))
/// }
/// ```
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
}

/// A handler whose arguments are forgotten.
pub(crate) type Answer = Box<dyn Fn(&mut Request) -> Result<Response>>;

struct Route {
    method: &'static str,
    pattern: &'static str,
    // Functions have no size, so this box allocates nothing.
    handler: Answer,
}

macro_rules! methods {
    ($($function:ident $method:literal)*) => {$(
        #[doc = concat!("Adds a route for ", $method, ".")]
        #[must_use]
        pub fn $function<A>(self, pattern: &'static str, handler: impl Handler<A> + 'static) -> Self {
            self.on($method, pattern, handler)
        }
    )*};
}

impl Router {
    /// No routes: every request is a 404.
    pub fn new() -> Self {
        Self::default()
    }

    methods! { get "GET" post "POST" put "PUT" patch "PATCH" delete "DELETE" }

    /// Adds a route for any method, given in capitals.
    #[must_use]
    pub fn on<A>(
        mut self,
        method: &'static str,
        pattern: &'static str,
        handler: impl Handler<A> + 'static,
    ) -> Self {
        let handler = Box::new(move |request: &mut Request| handler.call(request));
        self.routes.push(Route {
            method,
            pattern,
            handler,
        });
        self
    }

    /// Adds all routes of another router, for plugins that keep theirs in several files.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// Answers a request: 404 without a pattern that fits, 405 with `allow` if only the method is wrong. A route for
    /// GET answers HEAD, too; the host leaves the body out.
    pub fn handle(&self, request: &mut Request) -> Result<Response> {
        let mut best: Option<(Rank, &Route)> = None;
        let mut allowed = Vec::new();
        for route in &self.routes {
            let Some(rank) = rank(route.pattern, &request.path) else {
                continue;
            };
            let is_for_method = route.method == request.method
                || (route.method == "GET" && request.method == "HEAD");
            if !is_for_method {
                if !allowed.contains(&route.method) {
                    allowed.push(route.method);
                }
            } else if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, route));
            }
        }
        if let Some((_, route)) = best {
            request.params = Some(params(route.pattern, &request.path));
            return (route.handler)(request);
        }
        if allowed.is_empty() {
            return Err(Error::not_found(
                "route.not_found",
                "there is nothing at this path",
            ));
        }
        let allow = allowed.join(", ");
        let message = format!("this path answers only {allow}");
        Err(Error::new(405, "route.method_not_allowed", message).with_header("allow", allow))
    }
}

/// How special a match is, segment by segment; the smaller one wins.
type Rank = Vec<Segment>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Fixed,
    Parameter,
    Rest,
}

/// Nothing if the pattern does not fit.
fn rank(pattern: &str, path: &str) -> Option<Rank> {
    let mut rank = Rank::new();
    let mut rest = Some(segments(path));
    for expected in segments(pattern).split('/') {
        let path = rest?;
        let (kind, name) = parse(expected);
        let (segment, behind) = match kind {
            Segment::Rest => (path, None),
            _ => split(path),
        };
        let fits = match kind {
            Segment::Fixed => segment == name,
            _ => !segment.is_empty(),
        };
        if !fits {
            return None;
        }
        rank.push(kind);
        rest = behind;
    }
    rest.is_none().then_some(rank)
}

/// The parameters of a pattern that is known to fit, percent-decoded.
fn params(pattern: &str, path: &str) -> Vec<(String, String)> {
    let mut params = Vec::new();
    let mut path = segments(path);
    for expected in segments(pattern).split('/') {
        let (kind, name) = parse(expected);
        let (segment, behind) = match kind {
            Segment::Rest => (path, None),
            _ => split(path),
        };
        if kind != Segment::Fixed {
            params.push((name.to_owned(), decode_path(segment)));
        }
        path = behind.unwrap_or_default();
    }
    params
}

/// The first segment and what is behind its slash, if there is one.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, behind)) => (segment, Some(behind)),
        None => (path, None),
    }
}

fn segments(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

fn parse(segment: &str) -> (Segment, &str) {
    match segment
        .strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'))
    {
        None => (Segment::Fixed, segment),
        Some(inner) => match inner.strip_prefix('*') {
            Some(name) => (Segment::Rest, name),
            None => (Segment::Parameter, inner),
        },
    }
}

#[cfg(test)]
mod tests;
