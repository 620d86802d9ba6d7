//! Durations and sizes as people write them: `250ms`, `64KiB`.

use std::time::Duration;

const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A whole number followed by `ms`, `s`, `m` or `h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    quantity(text, DURATIONS).map(Duration::from_millis)
}

/// A whole number followed by `B`, `KiB`, `MiB` or `GiB`, in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    quantity(text, SIZES)
}

/// The duration as it would be written in a manifest.
pub(in crate::plugins) fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        DURATIONS,
    )
}

/// The size as it would be written in a manifest.
pub(in crate::plugins) fn show_size(bytes: u64) -> String {
    show(bytes, SIZES)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units
        .iter()
        .rev()
        .find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    let (unit, factor) = whole.unwrap_or(&units[0]);
    format!("{}{unit}", amount / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_meant(number in any::<u64>(), small in 0_u64..100_000) {
            for number in [number, small] {
                for (unit, factor) in SIZES {
                    prop_assert_eq!(size(&format!("{number}{unit}")), number.checked_mul(*factor));
                }
                for (unit, factor) in DURATIONS {
                    let meant = number.checked_mul(*factor).map(Duration::from_millis);
                    prop_assert_eq!(duration(&format!("{number}{unit}")), meant);
                }
                prop_assert_eq!(size(&show_size(number)), Some(number));
                let time = Duration::from_millis(number);
                prop_assert_eq!(duration(&show_duration(time)), Some(time));
            }
        }

        #[test]
        fn nothing_else_is_read(text in "[0-9 .eE+_-]{0,6}[a-zA-Z\u{b5}]{0,3}|\\PC{0,8}") {
            let is_quantity = |units: &[(&str, u64)]| {
                let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
                digits.len() < text.len() && units.iter().any(|(unit, _)| *unit == digits)
            };
            prop_assert_eq!(size(&text).is_some(), is_quantity(SIZES));
            prop_assert_eq!(duration(&text).is_some(), is_quantity(DURATIONS));
        }
    }
}
