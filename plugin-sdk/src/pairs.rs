//! Names and texts as any type that serde can read: path parameters, queries, configuration.

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

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
        self.groups
            .into_iter()
            .map(move |(name, values)| (name, Text { values, structured }))
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
    values: Vec<&'a str>,
    structured: Structured,
}

impl<'de> Text<'de> {
    /// Of a repeated name the last one counts, as with most servers.
    fn last(&self) -> &'de str {
        self.values.last().copied().unwrap_or_default()
    }

    fn parse<T: std::str::FromStr>(&self) -> Result<T, Error> {
        let text = self.last();
        text.parse().map_err(|_| {
            let kind = std::any::type_name::<T>();
            de::Error::custom(format_args!("`{}` is no valid {kind}", shorten(text)))
        })
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
    ($($function:ident $visit:ident)*) => {$(
        fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.last())
    }

    parse! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8 deserialize_i16 visit_i16
        deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16
        deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_f32 visit_f32 deserialize_f64 visit_f64
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
        visitor.visit_enum(self.last().into_deserializer())
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
                .map_err(de::Error::custom),
            Structured::Repeated => {
                let structured = self.structured;
                let values = self.values.into_iter();
                visitor.visit_seq(SeqDeserializer::new(values.map(move |value| Text {
                    values: vec![value],
                    structured,
                })))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.structured {
            Structured::Json => self
                .json()
                .deserialize_map(visitor)
                .map_err(de::Error::custom),
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
