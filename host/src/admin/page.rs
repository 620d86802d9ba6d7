//! Lists, a page at a time.

use serde::{Deserialize, Serialize};

use crate::admin::ApiError;

/// Most items of one page.
pub const ITEMS_MAX: u32 = 200;
const ITEMS_DEFAULT: u32 = 50;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most items, 1 to 200. Default: 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PageBody<T> {
    pub items: Vec<T>,
    /// Leads to the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl PageQuery {
    /// How many items are wanted.
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        check_limit(self.limit)
    }

    /// The cursor as what it stands for.
    pub(super) fn cursor_as<T: std::str::FromStr>(&self) -> Result<Option<T>, ApiError> {
        let cursor = self.cursor.as_deref().map(str::parse).transpose();
        cursor.map_err(|_| {
            ApiError::invalid(
                "request.cursor_invalid",
                "the cursor did not come from an earlier page",
            )
        })
    }

    /// The page of a list that is in memory as a whole and sorted by `key`.
    pub(super) fn of<T>(
        &self,
        items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<PageBody<T>, ApiError> {
        let limit = self.limit()? as usize;
        let after = self.cursor.as_deref().unwrap_or_default();
        let mut items = items
            .into_iter()
            .skip_while(|item| !after.is_empty() && *key(item) <= *after);
        let page: Vec<T> = items.by_ref().take(limit).collect();
        let has_more = items.next().is_some();
        let next_cursor = page.last().filter(|_| has_more).map(key);
        Ok(PageBody {
            items: page,
            next_cursor,
        })
    }
}

/// How many items are wanted, if that is within bounds.
pub(super) fn check_limit(limit: Option<u32>) -> Result<u32, ApiError> {
    match limit.unwrap_or(ITEMS_DEFAULT) {
        limit @ 1..=ITEMS_MAX => Ok(limit),
        limit => Err(ApiError::invalid(
            "request.limit_invalid",
            format!("`limit` is 1 to {ITEMS_MAX}, not {limit}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end_also_when_an_item_goes_away() {
        let page = |items: &[&str], cursor: Option<&str>| {
            let query = PageQuery {
                limit: Some(2),
                cursor: cursor.map(str::to_owned),
            };
            let items = items.iter().map(|&item| item.to_owned()).collect();
            query.of(items, String::clone).unwrap()
        };
        let first = page(&["a", "b", "c"], None);
        assert_eq!(
            (&*first.items, first.next_cursor.as_deref()),
            (&["a".into(), "b".into()][..], Some("b"))
        );
        let second = page(&["a", "c"], first.next_cursor.as_deref());
        assert_eq!(
            (&*second.items, second.next_cursor),
            (&["c".to_owned()][..], None)
        );
        assert!(page(&[], None).items.is_empty());
        assert_eq!(
            page(&["a", "b"], None).next_cursor,
            None,
            "nothing comes after it"
        );
    }

    #[test]
    fn a_page_has_a_bound() {
        for (limit, is_fine) in [
            (None, true),
            (Some(1), true),
            (Some(200), true),
            (Some(0), false),
            (Some(201), false),
        ] {
            assert_eq!(check_limit(limit).is_ok(), is_fine, "{limit:?}");
        }
    }
}
