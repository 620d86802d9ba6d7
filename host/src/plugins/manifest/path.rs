//! The pattern of a route: `/reservations/{id}`, `/{*rest}`.

/// Most bytes of a pattern.
const BYTES_MAX: usize = 512;

/// What is wrong with a pattern, if anything. The router has the last word; the rules before it make the pattern mean
/// the same to it, to the documentation and to people.
pub(super) fn mistake(pattern: &str) -> Option<String> {
    if !pattern.starts_with('/') {
        return Some("a path begins with `/`".to_owned());
    }
    if pattern.len() > BYTES_MAX {
        return Some(format!("a path has at most {BYTES_MAX} bytes"));
    }
    if pattern.contains("//") {
        return Some("a path has no empty segment (`//`)".to_owned());
    }
    let mut names = Vec::new();
    for segment in pattern[1..].split('/') {
        if segment == "." || segment == ".." {
            return Some("a path has no segment `.` or `..`".to_owned());
        }
        let mut rest = segment;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            if let Some(found) = forbidden(before) {
                return Some(found);
            }
            let parameter = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'));
            let Some((name, after)) = parameter else {
                return Some("a parameter is written `{name}` or `{*name}`".to_owned());
            };
            let name = name.strip_prefix('*').unwrap_or(name);
            if !is_name(name) {
                return Some(
                    "the name of a parameter has 1 to 64 small letters, digits and underscores, \
                     beginning with a letter or underscore"
                        .to_owned(),
                );
            }
            if names.contains(&name) {
                return Some(format!("the parameter `{name}` occurs twice"));
            }
            names.push(name);
            rest = after;
        }
        if let Some(found) = forbidden(rest) {
            return Some(found);
        }
    }
    match matchit::Router::new().insert(pattern, ()) {
        Ok(()) => None,
        Err(matchit::InsertError::InvalidParamSegment) => {
            Some("only one parameter is allowed in a segment".to_owned())
        }
        Err(matchit::InsertError::InvalidCatchAll) => {
            Some("`{*name}` is only allowed as the last segment, alone".to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

fn forbidden(text: &str) -> Option<String> {
    // Only ASCII: the router cuts patterns at bytes, and clients send other characters percent-encoded anyway.
    let found = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"-._~!$&'()+,;=:@".contains(*c))?;
    Some(format!(
        "a path does not contain `{}`",
        found.escape_debug()
    ))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
