//! `Range` and `If-Range` (RFC 9110, section 14): one range of bytes. Several are answered with all of it, which is allowed.

use std::ops::Range;

use http::{HeaderMap, header};
use jiff::Timestamp;

use crate::gateway::conditional;

/// Which part is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Bytes(Range<u64>),
    /// Nothing of it is there.
    Nowhere,
}

impl Part {
    /// What these headers ask of something with this size, tag and time of its last change.
    pub(super) fn of(
        headers: &HeaderMap,
        size: u64,
        tag: &str,
        modified: Option<Timestamp>,
    ) -> Self {
        let mut values = headers.get_all(header::RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Self::Whole;
        };
        if let Some(condition) = headers.get(header::IF_RANGE) {
            let is_tag = condition.to_str().is_ok_and(|text| text == tag);
            let is_time = conditional::time(condition).is_some_and(|time| Some(time) == modified);
            if !is_tag && !is_time {
                return Self::Whole;
            }
        }
        let text = value.to_str().unwrap_or_default();
        let Some((unit, range)) = text.split_once('=') else {
            return Self::Whole;
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        // What is no range is ignored, as if it were not there.
        read(range.trim(), size).unwrap_or(Self::Whole)
    }
}

fn read(range: &str, size: u64) -> Option<Part> {
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // One that is larger than any file means its end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = range.split_once('-')?;
    let range = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(match range.start < range.end {
        true => Part::Bytes(range),
        false => Part::Nowhere,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::files::head;

    #[test]
    fn one_range_is_given_and_everything_else_is_the_whole() {
        use Part::{Bytes, Nowhere, Whole};
        for (range, size, wanted) in [
            ("bytes=0-0", 10, Bytes(0..1)),
            ("bytes=2-5", 10, Bytes(2..6)),
            ("bytes=2-", 10, Bytes(2..10)),
            ("bytes=-3", 10, Bytes(7..10)),
            ("bytes=-30", 10, Bytes(0..10)),
            ("bytes=5-99999999999999999999999", 10, Bytes(5..10)),
            ("Bytes=9-9", 10, Bytes(9..10)),
            ("bytes=10-", 10, Nowhere),
            ("bytes=-0", 10, Nowhere),
            ("bytes=0-", 0, Nowhere),
            ("bytes=5-2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("items=0-1", 10, Whole),
            ("0-1", 10, Whole),
        ] {
            let head = head(&[("range", range)]);
            assert_eq!(
                Part::of(&head.headers, size, "\"a\"", None),
                wanted,
                "{range}"
            );
        }
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        let modified = Timestamp::from_second(784_111_777).ok();
        for (condition, wanted) in [
            ("\"a\"", Part::Bytes(0..1)),
            ("\"b\"", Part::Whole),
            ("W/\"a\"", Part::Whole),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Part::Bytes(0..1)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Part::Whole),
        ] {
            let head = head(&[("range", "bytes=0-0"), ("if-range", condition)]);
            let part = Part::of(&head.headers, 10, "\"a\"", modified);
            assert_eq!(part, wanted, "{condition}");
        }
    }
}
