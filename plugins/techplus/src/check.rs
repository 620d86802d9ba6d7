//! Checks what clients send and collects every mistake, so that they can mend all in one go.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use gantry_sdk::prelude::*;

/// The mistakes found so far, each at a JSON pointer: `/guest/email`.
#[derive(Default)]
pub struct Check(Vec<(String, &'static str, String)>);

impl Check {
    /// Notes a mistake.
    pub fn mistake(
        &mut self,
        at: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) {
        self.0.push((at.into(), code, message.into()));
    }

    /// Text without the space around it, of a length in characters.
    pub fn text(&mut self, at: &str, text: &str, length: RangeInclusive<usize>) -> String {
        let text = text.trim();
        let (min, max) = length.into_inner();
        let count = text.chars().count();
        if count < min && text.is_empty() {
            self.mistake(at, "required", "this is needed");
        } else if count < min {
            self.mistake(at, "too_short", format!("at least {min} characters"));
        } else if count > max {
            self.mistake(at, "too_long", format!("at most {max} characters"));
        } else if text.chars().any(|c| c.is_control() && c != '\n') {
            self.mistake(at, "format", "control characters are not allowed");
        }
        text.to_owned()
    }

    /// A number in a range.
    pub fn number<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        at: &str,
        number: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&number) {
            self.mistake(
                at,
                "out_of_range",
                format!("from {} to {}", range.start(), range.end()),
            );
        }
    }

    /// Something written as text. The default stands for what could not be read, until [`Check::finish`].
    pub fn parsed<T>(&mut self, at: &str, text: &str) -> T
    where
        T: FromStr<Err = &'static str> + Default,
    {
        match text.parse() {
            Ok(value) => value,
            Err(_) if text.is_empty() => {
                self.mistake(at, "required", "this is needed");
                T::default()
            }
            Err(wanted) => {
                self.mistake(at, "format", wanted);
                T::default()
            }
        }
    }

    /// An e-mail address in small letters, or nothing. Whether it exists, only a mail can tell.
    pub fn email(&mut self, at: &str, text: &str) -> String {
        let address = self.text(at, text, 0..=254).to_lowercase();
        if !address.is_empty() && !is_email(&address) {
            self.mistake(at, "format", "not an e-mail address");
        }
        address
    }

    /// A telephone number without its separators, or nothing.
    pub fn phone(&mut self, at: &str, text: &str) -> String {
        let number: String = text
            .chars()
            .filter(|c| !" .-/()\u{a0}".contains(*c))
            .collect();
        let digits = number.strip_prefix('+').unwrap_or(&number);
        let is_number =
            (6..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !number.is_empty() && !is_number {
            self.mistake(
                at,
                "format",
                "a telephone number has 6 to 15 digits, with or without +",
            );
        }
        number
    }

    /// 422 with all mistakes, if there are any.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let error = Error::unprocessable("some values are missing or wrong, see `errors`");
        Err(self
            .0
            .into_iter()
            .fold(error, |error, (at, code, message)| {
                error.with_field(at, code, message)
            }))
    }
}

fn is_email(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let is_local = (1..=64).contains(&local.len())
        && !local.contains([' ', '@', ',', ';', '<', '>', '(', ')', '"', '\n']);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    is_local && domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fine(check: impl FnOnce(&mut Check)) -> bool {
        let mut mistakes = Check::default();
        check(&mut mistakes);
        mistakes.finish().is_ok()
    }

    #[test]
    fn addresses_and_numbers_are_told_from_nonsense() {
        for address in [
            "",
            "ann@example.com",
            "Ann.Lee+table@mail.example.co.uk",
            "élodie@café.fr",
        ] {
            assert!(
                is_fine(|check| drop(check.email("/e", address))),
                "{address}"
            );
        }
        for address in [
            "ann",
            "ann@",
            "@example.com",
            "ann@localhost",
            "a b@example.com",
            "ann@-a.fr",
        ] {
            assert!(
                !is_fine(|check| drop(check.email("/e", address))),
                "{address}"
            );
        }
        for number in ["", "+33 6 12 34 56 78", "(0)6.12.34.56.78", "112233"] {
            assert!(is_fine(|check| drop(check.phone("/p", number))), "{number}");
        }
        for number in ["12345", "+", "++33612345678", "call me", "1234567890123456"] {
            assert!(
                !is_fine(|check| drop(check.phone("/p", number))),
                "{number}"
            );
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mut check = Check::default();
        check.text("/name", "  ", 1..=10);
        check.number("/party_size", 0, 1..=12);
        check.text("/note", "a\u{7}b", 0..=10);

        let error = check.finish().unwrap_err();

        let found: Vec<_> = error
            .fields()
            .iter()
            .map(|f| (f.field.as_str(), &*f.code))
            .collect();
        assert_eq!(
            found,
            [
                ("/name", "required"),
                ("/party_size", "out_of_range"),
                ("/note", "format")
            ]
        );
    }
}
