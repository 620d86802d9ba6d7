//! Time zones by their IANA names, without a time zone database.
//!
//! Reservations look forward, and for that a zone is one line: its offset and its rule for summer time. `zones.txt` has
//! these lines, as the system's zoneinfo files say them for the years to come, each with the zones that follow it:
//!
//! ```text
//! 60 120 3.5.0/120 10.5.0/180 Europe/Paris …
//! ```
//!
//! is one hour ahead of UTC, two hours from the last (5th) Sunday (0) in March, 120 minutes after midnight, to the last
//! Sunday in October, 180 minutes after midnight. A database with all of history would be larger than this plugin.

use gantry_sdk::prelude::*;

use crate::time::{DAY_MINUTES, Day, LocalTime, MINUTE_MS, Millis};

const ZONES: &str = include_str!("zones.txt");

/// The clock on a restaurant's wall.
#[derive(Debug)]
pub struct Zone {
    /// Minutes ahead of UTC.
    standard: i64,
    summer: Option<Summer>,
}

/// A time of the year with another offset.
#[derive(Debug)]
struct Summer {
    /// Minutes ahead of UTC.
    offset: i64,
    begins: Change,
    ends: Change,
}

/// When clocks are changed, told by the clock before the change.
#[derive(Debug)]
struct Change {
    month: i64,
    /// 5 is the last one of the month.
    week: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// After the midnight before.
    minute: i64,
}

impl Zone {
    /// By a name like `Europe/Paris`; nothing if there is no such zone.
    pub fn find(name: &str) -> Option<Self> {
        let is_name = |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic());
        let line = ZONES
            .lines()
            .find(|line| is_name(name) && line.split(' ').any(|word| word == name))?;
        let mut rule = line.split(' ').take_while(|word| !is_name(word));
        let standard = rule.next()?.parse().ok()?;
        let summer = rule.next().and_then(|offset| {
            Some(Summer {
                offset: offset.parse().ok()?,
                begins: Change::parse(rule.next()?)?,
                ends: Change::parse(rule.next()?)?,
            })
        });
        Some(Self { standard, summer })
    }

    /// The zone of a restaurant, which was checked when it was stored.
    pub fn get(name: &str) -> Result<Self> {
        Self::find(name).ok_or_else(|| Error::internal(format_args!("no time zone `{name}`")))
    }

    /// What the wall shows at an instant.
    pub fn local(&self, at: Millis) -> LocalTime {
        let minute = at.0.div_euclid(MINUTE_MS);
        LocalTime::from_minute(minute + self.offset_at(minute))
    }

    /// When the wall shows this. Of an hour that comes twice, the first time; of an hour that is skipped, as long after
    /// the change as the wall says before it.
    pub fn instant(&self, local: LocalTime) -> Millis {
        let summer = self
            .summer
            .as_ref()
            .map_or(self.standard, |summer| summer.offset);
        let (most, least) = (summer.max(self.standard), summer.min(self.standard));
        let early = local.minute() - most;
        let offset = if self.offset_at(early) == most {
            most
        } else {
            least
        };
        Millis((local.minute() - offset) * MINUTE_MS)
    }

    /// Minutes ahead of UTC at a minute of UTC.
    fn offset_at(&self, minute: i64) -> i64 {
        let Some(summer) = &self.summer else {
            return self.standard;
        };
        let year = LocalTime::from_minute(minute + self.standard).day().year();
        let begins = summer.begins.minute_in(year) - self.standard;
        let ends = summer.ends.minute_in(year) - summer.offset;
        let is_summer = if begins < ends {
            (begins..ends).contains(&minute)
        } else {
            // South of the equator, summer is where the year turns.
            !(ends..begins).contains(&minute)
        };
        if is_summer {
            summer.offset
        } else {
            self.standard
        }
    }
}

impl Change {
    /// `3.5.0/120`: month, week, weekday, minute.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split(['.', '/'])
            .map_while(|number| number.parse().ok());
        Some(Self {
            month: numbers.next()?,
            week: numbers.next()?,
            weekday: numbers.next()?,
            minute: numbers.next()?,
        })
    }

    /// In minutes since 1970 on the clock before the change.
    fn minute_in(&self, year: i64) -> i64 {
        let first = Day::new(year, self.month, 1);
        let to_weekday = (self.weekday - first.weekday()).rem_euclid(7);
        let mut day = first.plus(to_weekday + (self.week - 1) * 7);
        if day.month() != self.month {
            day = day.plus(-7);
        }
        day.number() * DAY_MINUTES + self.minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> LocalTime {
        let (date, time) = text.split_once(' ').unwrap();
        LocalTime::new(date.parse().unwrap(), time.parse().unwrap())
    }

    #[test]
    fn every_line_can_be_read() {
        for line in ZONES.lines() {
            let words = line.split(' ');
            let (rule, names): (Vec<_>, Vec<_>) =
                words.partition(|word| word.starts_with(|c: char| c == '-' || c.is_ascii_digit()));
            assert!([1, 4].contains(&rule.len()), "{line}");
            for name in names {
                let zone = Zone::find(name).unwrap();
                assert_eq!(zone.summer.is_some(), rule.len() == 4, "{line}");
                assert!(zone.standard.abs() <= 14 * 60, "{line}");
            }
        }
    }

    #[test]
    fn the_wall_and_utc_agree() {
        let cases = [
            ("UTC", "2026-12-01 19:30", "2026-12-01T19:30:00Z"),
            ("Asia/Kolkata", "2026-07-04 20:00", "2026-07-04T14:30:00Z"),
            ("Europe/Paris", "2026-12-01 19:30", "2026-12-01T18:30:00Z"),
            ("Europe/Paris", "2027-07-01 19:30", "2027-07-01T17:30:00Z"),
            // The last minute before each change, and the first one after it.
            ("Europe/Paris", "2027-03-28 01:59", "2027-03-28T00:59:00Z"),
            ("Europe/Paris", "2027-03-28 03:00", "2027-03-28T01:00:00Z"),
            ("Europe/Paris", "2026-10-25 01:59", "2026-10-24T23:59:00Z"),
            ("Europe/Paris", "2026-10-25 03:00", "2026-10-25T02:00:00Z"),
            // New York: the second Sunday of March, the first of November.
            (
                "America/New_York",
                "2027-03-14 03:00",
                "2027-03-14T07:00:00Z",
            ),
            (
                "America/New_York",
                "2026-11-01 00:59",
                "2026-11-01T04:59:00Z",
            ),
            (
                "America/New_York",
                "2026-07-04 20:00",
                "2026-07-05T00:00:00Z",
            ),
            (
                "Australia/Sydney",
                "2027-01-10 12:00",
                "2027-01-10T01:00:00Z",
            ),
            (
                "Australia/Sydney",
                "2027-06-10 12:00",
                "2027-06-10T02:00:00Z",
            ),
            // Dublin calls winter the exception.
            ("Europe/Dublin", "2026-12-01 12:00", "2026-12-01T12:00:00Z"),
            ("Europe/Dublin", "2027-06-01 12:00", "2027-06-01T11:00:00Z"),
        ];
        for (name, wall, utc) in cases {
            let zone = Zone::find(name).unwrap();
            let at = zone.instant(local(wall));
            assert_eq!(at.to_string(), utc, "{name} {wall}");
            assert_eq!(zone.local(at), local(wall), "{name} {wall}");
        }
    }

    #[test]
    fn an_hour_that_is_skipped_or_comes_twice_has_an_instant() {
        let zone = Zone::find("Europe/Paris").unwrap();
        let skipped = zone.instant(local("2027-03-28 02:30"));
        let twice = zone.instant(local("2026-10-25 02:30"));

        assert_eq!(skipped.to_string(), "2027-03-28T01:30:00Z");
        assert_eq!(twice.to_string(), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn a_name_that_is_not_a_zone_is_not_found() {
        for name in [
            "",
            "Paris",
            "europe/paris",
            "Europe/Paris ",
            "60",
            "3.5.0/120",
        ] {
            assert!(Zone::find(name).is_none(), "{name}");
        }
    }
}
