//! Long lists, a page at a time.

use gantry_sdk::prelude::*;

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 100;

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Of rows that were asked for with one more than the page has: then there is a next page, behind the last row
    /// that is shown.
    pub fn of(mut rows: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Self {
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(cursor);
        Self {
            items: rows,
            next_cursor,
        }
    }
}

/// Which page of a list is asked for.
#[derive(Debug, Default, Deserialize)]
pub struct PageQuery {
    pub limit: Option<usize>,
    pub cursor: Option<String>,
}

/// How many items a page has.
pub fn limit(asked: Option<usize>) -> Result<usize> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Error::bad_request(
            "request.invalid_query",
            format!("`limit` goes from 1 to {LIMIT_MAX}"),
        )),
    }
}

/// The `N` values at which a page begins, joined into a cursor with [`join`].
pub fn split<const N: usize>(cursor: &str) -> Result<[&str; N]> {
    let parts: Vec<&str> = cursor.splitn(N, '~').collect();
    parts.try_into().map_err(|_| invalid_cursor())
}

/// A cursor. Only the last part may hold any text.
pub fn join(parts: &[&str]) -> String {
    parts.join("~")
}

/// 400 for a cursor that no answer of ours had.
pub fn invalid_cursor() -> Error {
    Error::bad_request(
        "request.invalid_cursor",
        "`cursor` must be the `next_cursor` of an earlier answer",
    )
}
