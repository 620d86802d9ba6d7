//! Reads tables key by key, keeps the mistakes and the places. A key that nobody asked for is a mistake.

use std::time::Duration;
use std::{collections::BTreeMap, fmt::Display, ops::Range, ops::RangeInclusive, str::FromStr};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::units;
use crate::plugins::{Location, Mistake};

/// Most mistakes that are told at once; the rest is counted.
const MISTAKES_MAX: usize = 100;

/// What is learned while a manifest is read.
pub(super) struct Reader<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    mistakes: Vec<Mistake>,
    places: BTreeMap<String, Location>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            text,
            line_starts,
            mistakes: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn mistake(&mut self, at: Range<usize>, message: impl Into<String>) {
        let location = self.location(at.start);
        self.mistakes.push(Mistake::new(message).at(Some(location)));
    }

    pub(super) fn mistake_with_help(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let location = self.location(at.start);
        self.mistakes
            .push(Mistake::new(message).at(Some(location)).with_help(help));
    }

    /// Remembers where something stands, for checks that come later.
    pub(super) fn remember(&mut self, key: String, at: Range<usize>) {
        let location = self.location(at.start);
        self.places.insert(key, location);
    }

    pub(super) fn has_mistakes(&self) -> bool {
        !self.mistakes.is_empty()
    }

    pub(super) fn into_places(self) -> BTreeMap<String, Location> {
        self.places
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes;
        mistakes.sort_by_key(|mistake| mistake.location);
        if mistakes.len() > MISTAKES_MAX {
            let more = mistakes.len() - MISTAKES_MAX;
            mistakes.truncate(MISTAKES_MAX);
            let are = if more == 1 {
                "mistake is"
            } else {
                "mistakes are"
            };
            mistakes.push(Mistake::new(format!("{more} more {are} not shown")));
        }
        mistakes
    }

    pub(super) fn location(&self, offset: usize) -> Location {
        let line = self
            .line_starts
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = self.line_starts[line - 1];
        let column = self
            .text
            .get(start..offset)
            .map_or(0, |before| before.chars().count())
            + 1;
        Location { line, column }
    }
}

/// One table while it is read.
pub(super) struct Fields<'a, 't> {
    table: &'a DeTable<'t>,
    span: Range<usize>,
    /// How messages call it: `[plugin]` in backticks, or nothing at the top of the file.
    title: &'static str,
    known: Vec<&'static str>,
}

impl<'a, 't> Fields<'a, 't> {
    pub(super) fn root(table: &'a DeTable<'t>) -> Self {
        Self {
            table,
            span: 0..0,
            title: "",
            known: Vec::new(),
        }
    }

    fn new(table: &'a DeTable<'t>, span: Range<usize>, title: &'static str) -> Self {
        Self {
            table,
            span,
            title,
            known: Vec::new(),
        }
    }

    /// The value as a table, or a mistake.
    pub(super) fn of(
        reader: &mut Reader<'_>,
        value: &'a Spanned<DeValue<'t>>,
        title: &'static str,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(table, value.span(), title)),
            other => {
                let message = format!("{title} must be a table, not {}", word(other));
                reader.mistake(value.span(), message);
                None
            }
        }
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value as it stands. Marks the key as known, as all the readers below do.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    pub(super) fn table(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        title: &'static str,
    ) -> Option<Fields<'a, 't>> {
        Fields::of(reader, self.get(key)?, title)
    }

    /// A table at the top of the file that must be there.
    pub(super) fn required_table(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Fields<'a, 't>> {
        let title = if key == "plugin" {
            "`[plugin]`"
        } else {
            "`[component]`"
        };
        if !self.has(key) {
            reader.mistake(self.span(), format!("{title} is missing"));
        }
        self.table(reader, key, title)
    }

    /// A list of tables, `[[route]]`.
    pub(super) fn tables(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        title: &'static str,
        count_max: usize,
    ) -> Vec<Fields<'a, 't>> {
        let list = self.list(reader, key, count_max);
        list.into_iter()
            .filter_map(|value| Fields::of(reader, value, title))
            .collect()
    }

    /// The elements of a list, or nothing if the key is not set.
    pub(super) fn list(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        count_max: usize,
    ) -> Vec<&'a Spanned<DeValue<'t>>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(list) if list.len() > count_max => {
                let message = format!(
                    "`{key}` has {} entries, at most {count_max} are allowed",
                    list.len()
                );
                reader.mistake(value.span(), message);
                Vec::new()
            }
            DeValue::Array(list) => list.iter().collect(),
            other => {
                let message = format!("`{key}` must be a list, not {}", word(other));
                let help = match other {
                    DeValue::Table(_) if self.title.is_empty() => {
                        Some(format!("write `[[{key}]]`"))
                    }
                    DeValue::Table(_) => Some(format!("write `{key} = [{{ … }}]`")),
                    DeValue::String(text) => Some(format!("write `{key} = [\"{text}\"]`")),
                    _ => None,
                };
                match help {
                    Some(help) => reader.mistake_with_help(value.span(), message, help),
                    None => reader.mistake(value.span(), message),
                }
                Vec::new()
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        count_max: usize,
        length_max: usize,
    ) -> Vec<Spanned<&'a str>> {
        let list = self.list(reader, key, count_max);
        list.into_iter()
            .filter_map(|value| string(reader, key, value, length_max))
            .collect()
    }

    pub(super) fn string(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        length_max: usize,
    ) -> Option<Spanned<&'a str>> {
        let value = self.get(key)?;
        string(reader, key, value, length_max)
    }

    pub(super) fn required_string(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        length_max: usize,
    ) -> Option<Spanned<&'a str>> {
        if !self.has(key) {
            reader.mistake(self.span(), format!("`{key}` is missing in {}", self.title));
        }
        self.string(reader, key, length_max)
    }

    /// A string that must be there and have the form of `T`.
    pub(super) fn required_parsed<T: FromStr<Err: Display>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Spanned<T>> {
        let text = self.required_string(reader, key, 1024)?;
        parsed(reader, key, &text)
    }

    pub(super) fn integer(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<Spanned<i64>> {
        let value = self.get(key)?;
        let DeValue::Integer(digits) = value.get_ref() else {
            let message = format!(
                "`{key}` must be a whole number, not {}",
                word(value.get_ref())
            );
            reader.mistake(value.span(), message);
            return None;
        };
        match i64::from_str_radix(&digits.as_str().replace('_', ""), digits.radix()) {
            Ok(number) if range.contains(&number) => Some(Spanned::new(value.span(), number)),
            _ => {
                let (least, most) = range.into_inner();
                let message = format!("`{key}` must be between {least} and {most}");
                reader.mistake(value.span(), message);
                None
            }
        }
    }

    /// `"250ms"`, `"5s"`, `"15m"`, `"1h"`.
    pub(super) fn duration(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Spanned<Duration>> {
        let (at, text) = self.quantity(reader, key, "5s", "units: ms, s, m, h")?;
        match units::duration(text) {
            Some(duration) if range.contains(&duration) => Some(Spanned::new(at, duration)),
            Some(_) => {
                let (least, most) = range.into_inner();
                let (least, most) = (units::show_duration(least), units::show_duration(most));
                reader.mistake(at, format!("`{key}` must be between {least} and {most}"));
                None
            }
            None => {
                let message = format!("`{}` is not a duration", clip(text));
                let help = format!("write for example `{key} = \"5s\"`; units: ms, s, m, h");
                reader.mistake_with_help(at, message, help);
                None
            }
        }
    }

    /// `"64KiB"`, `"1MiB"`, in bytes.
    pub(super) fn size(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Spanned<u64>> {
        let (at, text) = self.quantity(reader, key, "1MiB", "units: B, KiB, MiB, GiB")?;
        match units::size(text) {
            Some(bytes) if range.contains(&bytes) => Some(Spanned::new(at, bytes)),
            Some(_) => {
                let (least, most) = range.into_inner();
                let (least, most) = (units::show_size(least), units::show_size(most));
                reader.mistake(at, format!("`{key}` must be between {least} and {most}"));
                None
            }
            None => {
                let message = format!("`{}` is not a size", clip(text));
                let help = format!("write for example `{key} = \"1MiB\"`; units: B, KiB, MiB, GiB");
                reader.mistake_with_help(at, message, help);
                None
            }
        }
    }

    fn quantity(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &str,
        units: &str,
    ) -> Option<(Range<usize>, &'a str)> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((value.span(), text)),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let message = format!("`{key}` needs a unit");
                let help = format!("write for example `{key} = \"{example}\"`; {units}");
                reader.mistake_with_help(value.span(), message, help);
                None
            }
            other => {
                let message = format!("`{key}` must be a string, not {}", word(other));
                let help = format!("write for example `{key} = \"{example}\"`; {units}");
                reader.mistake_with_help(value.span(), message, help);
                None
            }
        }
    }

    /// Refuses the keys that nobody asked for. `later` are those that a later version will know, `notes` explain
    /// others.
    pub(super) fn finish(
        self,
        reader: &mut Reader<'_>,
        later: &[&'static str],
        notes: &[(&'static str, &'static str)],
    ) {
        let place = if self.title.is_empty() {
            String::new()
        } else {
            format!(" in {}", self.title)
        };
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            if later.contains(&name) {
                let shown = match value.get_ref() {
                    DeValue::Array(list)
                        if self.title.is_empty() && list.iter().any(|v| v.get_ref().is_table()) =>
                    {
                        format!("[[{name}]]")
                    }
                    DeValue::Table(_) if self.title.is_empty() => format!("[{name}]"),
                    _ => name.to_owned(),
                };
                reader.mistake(key.span(), format!("`{shown}` is not supported yet{place}"));
                continue;
            }
            let message = format!("unknown key `{}`{place}", clip(name));
            let note = notes
                .iter()
                .find(|(noted, _)| *noted == name)
                .map(|(_, note)| (*note).to_owned());
            match note.or_else(|| {
                nearest(name, &self.known).map(|near| format!("did you mean `{near}`?"))
            }) {
                Some(help) => reader.mistake_with_help(key.span(), message, help),
                None => {
                    let help = format!("known keys: {}", self.known.join(", "));
                    reader.mistake_with_help(key.span(), message, help);
                }
            }
        }
    }
}

/// True or false, or a mistake.
pub(super) fn read_flag(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Option<bool> {
    let value = fields.get(key)?;
    match value.get_ref() {
        DeValue::Boolean(truth) => Some(*truth),
        _ => {
            let message = format!("`{key}` must be true or false");
            reader.mistake(value.span(), message);
            None
        }
    }
}

/// A string of 1 to `length_max` bytes without control characters, or a mistake.
pub(super) fn string<'a>(
    reader: &mut Reader<'_>,
    key: &str,
    value: &'a Spanned<DeValue<'_>>,
    length_max: usize,
) -> Option<Spanned<&'a str>> {
    let DeValue::String(text) = value.get_ref() else {
        let message = format!("`{key}` must be a string, not {}", word(value.get_ref()));
        reader.mistake(value.span(), message);
        return None;
    };
    let message = if text.is_empty() {
        format!("`{key}` is empty")
    } else if text.len() > length_max {
        format!(
            "`{key}` has {} bytes, at most {length_max} are allowed",
            text.len()
        )
    } else if text.chars().any(char::is_control) {
        format!("`{key}` contains control characters")
    } else {
        return Some(Spanned::new(value.span(), text.as_ref()));
    };
    reader.mistake(value.span(), message);
    None
}

/// The text as a `T`, or a mistake.
pub(super) fn parsed<T: FromStr<Err: Display>>(
    reader: &mut Reader<'_>,
    key: &str,
    text: &Spanned<&str>,
) -> Option<Spanned<T>> {
    match text.get_ref().parse() {
        Ok(value) => Some(Spanned::new(text.span(), value)),
        Err(error) => {
            let message = format!("`{key}`: {error}");
            reader.mistake(text.span(), message);
            None
        }
    }
}

/// The first element that stands before an equal one, by its key.
pub(super) fn refuse_duplicates<'v, T: Ord + Display + 'v>(
    reader: &mut Reader<'_>,
    what: &str,
    values: impl IntoIterator<Item = (Range<usize>, T)>,
) {
    let mut seen = std::collections::BTreeSet::new();
    for (at, value) in values {
        if seen.contains(&value) {
            reader.mistake(at, format!("{what} `{value}` is declared twice"));
        } else {
            seen.insert(value);
        }
    }
}

/// The known word that somebody may have meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let word: String = word.chars().take(64).collect();
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// At most 64 characters of a text of the author, for a message.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
