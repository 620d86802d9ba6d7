//! Patterns of paths, as routes and OpenAPI documents have them: `/orders/{id}`, and `/files/{*rest}` for whatever follows.
//! What patterns are allowed to be, and which of them fits a path, is decided elsewhere.

/// What stands in braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Without the star.
    pub name: &'a str,
    /// Takes the rest of the path, slashes too.
    pub is_rest: bool,
}

/// The parameters of a pattern, in their order. Braces that nothing closes are none.
pub fn parameters(pattern: &str) -> impl Iterator<Item = Parameter<'_>> {
    let parts = pattern.split('{').skip(1);
    parts.filter_map(|part| Some(parameter(part.split_once('}')?.0)))
}

/// The pattern with something in the place of each parameter.
pub fn filled(pattern: &str, mut with: impl FnMut(Parameter<'_>) -> String) -> String {
    let mut parts = pattern.split('{');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, rest) = part.split_once('}').unwrap_or((part, ""));
        path.push_str(&with(parameter(inside)));
        path.push_str(rest);
    }
    path
}

/// The pattern without the names: the same for two patterns that fit the same paths.
pub fn shape(pattern: &str) -> String {
    filled(pattern, |parameter| {
        if parameter.is_rest { "{*}" } else { "{}" }.to_owned()
    })
}

fn parameter(inside: &str) -> Parameter<'_> {
    match inside.strip_prefix('*') {
        Some(name) => Parameter {
            name,
            is_rest: true,
        },
        None => Parameter {
            name: inside,
            is_rest: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_names_and_places() {
        let pattern = "/shops/{shop}/files/{*path}";

        let found: Vec<_> = parameters(pattern)
            .map(|it| (it.name, it.is_rest))
            .collect();

        assert_eq!(found, [("shop", false), ("path", true)]);
        assert_eq!(shape(pattern), "/shops/{}/files/{*}");
        let filled = filled(pattern, |parameter| parameter.name.to_uppercase());
        assert_eq!(filled, "/shops/SHOP/files/PATH");
        assert_eq!(parameters("/plain").count(), 0);
        assert_eq!(shape("/v{major}.json"), "/v{}.json");
    }
}
