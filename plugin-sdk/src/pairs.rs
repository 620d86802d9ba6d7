//! Names and texts as any type that serde can read: path parameters, queries, configuration.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

/// Why the texts do not fit the type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Error {
    /// The name whose text is wrong or missing, where it is one.
    pub(crate) name: Option<String>,
    /// A sentence without the name.
    pub(crate) message: String,
}

impl Error {
    fn of(self, name: &str) -> Self {
        Self {
            name: self.name.or_else(|| Some(name.to_owned())),
            message: self.message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{name}` {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            name: None,
            message: message.to_string(),
        }
    }

    fn missing_field(name: &'static str) -> Self {
        Self {
            name: Some(name.to_owned()),
            message: "is missing".to_owned(),
        }
    }

    fn unknown_field(name: &str, _expected: &'static [&'static str]) -> Self {
        Self {
            name: Some(name.to_owned()),
            message: "is not known here".to_owned(),
        }
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        let message = format!(
            "is `{}` and must be one of: {}",
            shorten(word),
            expected.join(", ")
        );
        Self {
            name: None,
            message,
        }
    }
}

/// Ordered names and texts. A name may come more than once.
pub(crate) struct Pairs<'a> {
    /// Each name with its values, names in the order they came first.
    groups: Vec<(&'a str, Vec<&'a str>)>,
    structured: Structured,
}

/// What a text becomes where the type wants a list or a struct.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Structured {
    /// The values of a repeated name make a list; there are no structs.
    Repeated,
    /// The text is JSON.
    Json,
}

impl<'a> Pairs<'a> {
    /// For paths and queries.
    pub(crate) fn new(pairs: &'a [(String, String)]) -> Self {
        Self {
            groups: group(pairs),
            structured: Structured::Repeated,
        }
    }

    /// For configuration: what is not plain is JSON.
    pub(crate) fn with_json(pairs: &'a [(String, String)]) -> Self {
        Self {
            groups: group(pairs),
            structured: Structured::Json,
        }
    }

    fn texts(self) -> impl ExactSizeIterator<Item = (&'a str, Text<'a>)> {
        let structured = self.structured;
        self.groups.into_iter().map(move |(name, values)| {
            (
                name,
                Text {
                    name,
                    values,
                    structured,
                },
            )
        })
    }

    fn single(self) -> Result<Text<'a>, Error> {
        let count = self.groups.len();
        match self.texts().next() {
            Some((_, text)) if count == 1 => Ok(text),
            _ => Err(de::Error::custom(format_args!(
                "expected one parameter, got {count}"
            ))),
        }
    }
}

fn group(pairs: &[(String, String)]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        match groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => groups.push((name, vec![value])),
        }
    }
    groups
}

macro_rules! forward_to_single {
    ($($function:ident)*) => {$(
        fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.single()?.$function(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Pairs<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.texts()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.texts().map(|(_, text)| text)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.single()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.groups.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    forward_to_single! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string
    }

    serde::forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit_struct map struct identifier ignored_any
    }
}

/// The texts of one name.
struct Text<'a> {
    name: &'a str,
    values: Vec<&'a str>,
    structured: Structured,
}

impl<'de> Text<'de> {
    /// Of a repeated name the last one counts, as with most servers.
    fn last(&self) -> &'de str {
        self.values.last().copied().unwrap_or_default()
    }

    fn parse<T: std::str::FromStr>(&self, kind: &str) -> Result<T, Error> {
        let text = self.last();
        text.parse().map_err(|_| {
            let message = format!("is `{}` and must be {kind}", shorten(text));
            Error {
                name: Some(self.name.to_owned()),
                message,
            }
        })
    }

    fn mistake(&self, error: &serde_json::Error) -> Error {
        <Error as de::Error>::custom(format_args!("is not the JSON it must be: {error}"))
            .of(self.name)
    }

    fn json(&self) -> serde_json::Deserializer<serde_json::de::StrRead<'de>> {
        serde_json::Deserializer::from_str(self.last())
    }
}

/// Long texts do not belong into messages.
fn shorten(text: &str) -> &str {
    text.char_indices()
        .nth(40)
        .map_or(text, |(at, _)| &text[..at])
}

impl<'de> IntoDeserializer<'de, Error> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parse {
    ($($function:ident $visit:ident $kind:expr;)*) => {$(
        fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse($kind)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor
            .visit_borrowed_str(self.last())
            .map_err(|error: Error| error.of(self.name))
    }

    parse! {
        deserialize_bool visit_bool "true or false";
        deserialize_i8 visit_i8 "a whole number from -128 to 127";
        deserialize_i16 visit_i16 "a whole number from -32768 to 32767";
        deserialize_i32 visit_i32 "a whole number from -2147483648 to 2147483647";
        deserialize_i64 visit_i64 "a whole number";
        deserialize_u8 visit_u8 "a whole number from 0 to 255";
        deserialize_u16 visit_u16 "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 "a whole number from 0 on";
        deserialize_f32 visit_f32 "a number";
        deserialize_f64 visit_f64 "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.structured, self.last()) {
            (Structured::Json, "null") => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let word: de::value::StrDeserializer<'_, Error> = self.last().into_deserializer();
        visitor
            .visit_enum(word)
            .map_err(|error| error.of(self.name))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.structured {
            Structured::Json => self
                .json()
                .deserialize_seq(visitor)
                .map_err(|error| self.mistake(&error)),
            Structured::Repeated => {
                let Self {
                    name,
                    values,
                    structured,
                } = self;
                let texts = values.into_iter().map(move |value| Text {
                    name,
                    values: vec![value],
                    structured,
                });
                visitor.visit_seq(SeqDeserializer::new(texts))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.structured {
            Structured::Json => self
                .json()
                .deserialize_map(visitor)
                .map_err(|error| self.mistake(&error)),
            Structured::Repeated => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}
