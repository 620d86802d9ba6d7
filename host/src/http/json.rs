//! Bodies in JSON that the host itself reads, and what is told of those that it cannot take: the same on all of its doors.

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::http::Problem;
use crate::http::problem::ProblemItem;

/// Why a body is not what was asked for, and where.
pub type Mistake = serde_path_to_error::Error<serde_json::Error>;

/// Reads a body. 400 if it is no JSON, 422 if it is not of the shape that is asked for, with the place.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| explain(&error))?;
    let rest = reader.end();
    rest.map_err(|error| not_json(&error))?;
    Ok(value)
}

fn explain(mistake: &Mistake) -> Problem {
    match mistake.inner().classify() {
        Category::Data => does_not_fit(vec![item(mistake)]),
        _ => not_json(mistake.inner()),
    }
}

/// 422 for a body that is JSON and not of the shape that is asked for.
pub fn does_not_fit(errors: Vec<ProblemItem>) -> Problem {
    let problem = Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "request.invalid_body",
        "the body is not as this path describes it; `errors` says where",
    );
    problem.with_errors(errors)
}

fn not_json(error: &serde_json::Error) -> Problem {
    let detail = error.to_string();
    Problem::new(StatusCode::BAD_REQUEST, "request.invalid_json", detail)
}

/// What is wrong, at a JSON Pointer (RFC 6901).
pub fn item(mistake: &Mistake) -> ProblemItem {
    let text = mistake.inner().to_string();
    // Line and column say the same for those who do not look at bytes.
    let detail = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(what, _)| what);
    ProblemItem {
        at: Some(pointer(mistake.path())),
        detail: detail.to_owned(),
        help: None,
    }
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => pointer.push_str(variant),
            // Below a value that is no JSON: nobody asks where in it.
            Segment::Unknown => pointer.truncate(pointer.len() - 1),
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[expect(dead_code, reason = "only read")]
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    struct Line {
        #[expect(dead_code, reason = "only read")]
        #[serde(rename = "a/b~c")]
        count: u8,
    }

    #[test]
    fn what_is_no_json_and_what_does_not_fit_are_told_apart_and_the_place_is_named() {
        for (body, status, at, word) in [
            ("", 400, None, "EOF"),
            ("{", 400, None, "line 1"),
            ("{\"lines\":[]} x", 400, None, "trailing"),
            ("[]", 422, Some(""), "expected struct Order"),
            ("7", 422, Some(""), "invalid type: integer `7`"),
            ("{}", 422, Some(""), "missing field `lines`"),
            ("{\"lines\":{}}", 422, Some("/lines"), "expected a sequence"),
            (
                "{\"lines\":[{\"a/b~c\":1},{\"a/b~c\":256}]}",
                422,
                Some("/lines/1/a~1b~0c"),
                "expected u8",
            ),
            ("{\"lines\":[],\"x\":1}", 422, Some("/x"), "unknown field"),
        ] {
            let problem = read::<Order>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status, status, "{body}");
            let item = problem.errors.first();
            assert_eq!(item.and_then(|item| item.at.as_deref()), at, "{body}");
            let told = item.map_or(&problem.detail, |item| &item.detail);
            assert!(told.contains(word), "{body}: {told}");
            assert_eq!(told.contains(" at line "), status == 400, "{body}: {told}");
        }
        assert!(read::<Order>(b" {\"lines\": []}\n").is_ok());
    }
}
