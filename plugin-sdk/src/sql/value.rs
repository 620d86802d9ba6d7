//! Rust values as SQL values.

use std::ops::{Deref, DerefMut};

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};
use serde::{Serialize, Serializer};

use super::Value;

macro_rules! from {
    ($($type:ty => $case:ident($value:ident) $convert:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$case($convert)
            }
        }
    )*};
}

from! {
    bool => Boolean(value) value;
    i8 => Integer(value) value.into();
    i16 => Integer(value) value.into();
    i32 => Integer(value) value.into();
    i64 => Integer(value) value;
    u8 => Integer(value) value.into();
    u16 => Integer(value) value.into();
    u32 => Integer(value) value.into();
    f32 => Real(value) value.into();
    f64 => Real(value) value;
    &str => Text(value) value.to_owned();
    String => Text(value) value;
    &String => Text(value) value.clone();
    Vec<u8> => Blob(value) value;
    &[u8] => Blob(value) value.to_vec();
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A value kept as JSON in a column of text.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Dish {
///     name: String,
///     allergens: sql::Json<Vec<String>>,
/// }
///
/// fn add(dish: &Dish) -> Result<()> {
///     let insert = "INSERT INTO dishes (name, allergens) VALUES ($1, $2)";
///     sql::open("main")?.execute(insert, params![&dish.name, sql::Json(&*dish.allergens)])?;
///     Ok(())
/// }
/// # let _ = add;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Serialize> From<Json<T>> for Value {
    /// A value that cannot be JSON, such as a map whose keys are no text, becomes NULL.
    fn from(value: Json<T>) -> Self {
        serde_json::to_string(&value.0).map_or(Self::Null, Self::Text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text)
            .map(Json)
            .map_err(de::Error::custom)
    }
}

impl<T: Serialize> Serialize for Json<T> {
    /// As the value itself: a row that is answered as JSON shows JSON, not text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
