//! Time zones by their IANA names, without a time zone database.
//!
//! Reservations look forward, and for that a zone is one line: its offset and its rule for summer time, as POSIX writes
//! it. `zones.txt` has these lines, each with the zones that follow it; they are the last lines of the system's
//! zoneinfo files. A database with all of history would be larger than the rest of this plugin.

use gantry_sdk::prelude::*;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::{LocalTime, Millis};

const ZONES: &str = include_str!("zones.txt");

/// The clock on a restaurant's wall.
pub struct Zone(TimeZone);

impl Zone {
    /// By a name like `Europe/Paris`; nothing if there is no such zone.
    pub fn find(name: &str) -> Option<Self> {
        let rule = ZONES.lines().find_map(|line| {
            let (rule, names) = line.split_once(' ')?;
            names.split(' ').any(|known| known == name).then_some(rule)
        })?;
        TimeZone::posix(rule).ok().map(Self)
    }

    /// The zone of a restaurant that was checked when it was stored.
    pub fn get(name: &str) -> Result<Self> {
        Self::find(name).ok_or_else(|| Error::internal(format_args!("no time zone `{name}`")))
    }

    /// What the wall shows at an instant.
    pub fn local(&self, at: Millis) -> Result<LocalTime> {
        Ok(self
            .0
            .to_datetime(Timestamp::from_millisecond(at.0)?)
            .into())
    }

    /// When the wall shows this. Of an hour that summer time skips, the same distance behind it; of an hour that comes
    /// twice, the first.
    pub fn instant(&self, local: LocalTime) -> Result<Millis> {
        Ok(Millis(self.0.to_timestamp(local.into())?.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_read() {
        for line in ZONES.lines() {
            let (_, names) = line.split_once(' ').unwrap();
            for name in names.split(' ') {
                assert!(Zone::find(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn summer_time_is_known() {
        let cases = [
            (
                "Europe/Paris",
                "2026-12-01",
                "19:30",
                "2026-12-01T18:30:00Z",
            ),
            (
                "Europe/Paris",
                "2027-07-01",
                "19:30",
                "2027-07-01T17:30:00Z",
            ),
            // Skipped, and twice there.
            (
                "Europe/Paris",
                "2027-03-28",
                "02:30",
                "2027-03-28T01:30:00Z",
            ),
            (
                "Europe/Paris",
                "2026-10-25",
                "02:30",
                "2026-10-25T00:30:00Z",
            ),
            (
                "America/New_York",
                "2026-07-04",
                "20:00",
                "2026-07-05T00:00:00Z",
            ),
            (
                "Asia/Kolkata",
                "2026-07-04",
                "20:00",
                "2026-07-04T14:30:00Z",
            ),
            (
                "Australia/Sydney",
                "2027-01-10",
                "12:00",
                "2027-01-10T01:00:00Z",
            ),
        ];
        for (name, date, time, wanted) in cases {
            let zone = Zone::find(name).unwrap();
            let local = LocalTime::new(date.parse().unwrap(), time.parse().unwrap());
            let at = zone.instant(local).unwrap();
            assert_eq!(at.to_string(), wanted, "{name} {date} {time}");
            if time != "02:30" {
                assert_eq!(zone.local(at).unwrap(), local, "{name} {date} {time}");
            }
        }
    }

    #[test]
    fn a_name_that_is_not_a_zone_is_not_found() {
        for name in [
            "",
            "Paris",
            "europe/paris",
            "Europe/Paris ",
            "CET-1CEST,M3.5.0,M10.5.0/3",
        ] {
            assert!(Zone::find(name).is_none(), "{name}");
        }
    }
}
