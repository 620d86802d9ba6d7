//! Makes text of a guest fit to be shown: bounded, and without characters that a terminal would obey.

use std::fmt::Write as _;

/// What stands at the end of a text that was cut.
const MARK: &str = "… [cut]";

/// Cuts a text to so many bytes and escapes control characters; line breaks and tabs stay.
pub(super) fn clean(text: &mut String, bytes_max: usize) {
    if text.contains(is_unfit) {
        // Escapes are up to ten times as long, so what cannot be shown anyway is cut off first.
        text.truncate(text.floor_char_boundary(bytes_max + 1));
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_unfit(c) {
                // Writing to a string does not fail.
                let _ = write!(escaped, "{}", c.escape_unicode());
            } else {
                escaped.push(c);
            }
        }
        *text = escaped;
    }
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max.saturating_sub(MARK.len())));
        text.push_str(MARK);
    }
}

/// Control characters, and those that turn the direction of writing or hide.
fn is_unfit(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_fit_to_be_shown() {
        for (text, wanted) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[31mred\r\0", "\\u{1b}[31mred\\u{d}\\u{0}"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("twenty-four bytes long!!", "twenty-four bytes long!!"),
            ("twenty-five bytes long!!!", "twenty-five byt… [cut]"),
            ("üüüüüüüüüüüüü", "üüüüüüü… [cut]"),
            ("\0\0\0\0\0", "\\u{0}\\u{0}\\u{0}… [cut]"),
        ] {
            let mut found = text.to_owned();
            clean(&mut found, 24);
            assert_eq!(found, wanted);
            assert!(found.len() <= 24);
        }
    }
}
