//! What is wanted of an image. It comes out of a query, so numbers are text.

use gantry_sdk::prelude::*;

/// Most pixels of an image that is decoded: what fits into the memory of one instance.
pub(crate) const PIXELS_MAX: u64 = 16_000_000;
/// Longest side of an image that is made; WebP can have no longer one.
const SIDE_MAX: u32 = 8192;
const QUALITY: u8 = 80;

/// The parameters as they come.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Params {
    pub(crate) width: Option<String>,
    pub(crate) height: Option<String>,
    pub(crate) fit: Option<String>,
    pub(crate) format: Option<String>,
    pub(crate) quality: Option<String>,
    pub(crate) pixels_max: Option<String>,
}

/// The parameters, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fit: Fit,
    pub(crate) format: Format,
    pub(crate) quality: u8,
    pub(crate) pixels_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Contain,
    Cover,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    WebP,
    Jpeg,
    Png,
}

impl Params {
    /// What they ask for; 400 `image.params_invalid` if that makes no sense.
    pub(crate) fn check(&self) -> Result<Wanted> {
        let width = number("width", self.width.as_deref(), SIDE_MAX)?;
        let height = number("height", self.height.as_deref(), SIDE_MAX)?;
        let fit = match self.fit.as_deref() {
            None | Some("contain") => Fit::Contain,
            Some("cover") if width.is_some() && height.is_some() => Fit::Cover,
            Some("cover") => return Err(invalid("`fit = cover` needs `width` and `height`")),
            Some(_) => return Err(invalid("`fit` is `contain` or `cover`")),
        };
        let format = match self.format.as_deref() {
            None | Some("webp") => Format::WebP,
            Some("jpeg") => Format::Jpeg,
            Some("png") => Format::Png,
            Some(_) => return Err(invalid("`format` is `webp`, `jpeg` or `png`")),
        };
        let quality = number("quality", self.quality.as_deref(), 100)?;
        let pixels_max = number("pixels_max", self.pixels_max.as_deref(), u32::MAX)?;
        Ok(Wanted {
            width: width.unwrap_or(SIDE_MAX),
            height: height.unwrap_or(SIDE_MAX),
            fit,
            format,
            quality: quality
                .and_then(|quality| quality.try_into().ok())
                .unwrap_or(QUALITY),
            pixels_max: pixels_max.map_or(PIXELS_MAX, |pixels| PIXELS_MAX.min(pixels.into())),
        })
    }
}

fn number(name: &str, text: Option<&str>, most: u32) -> Result<Option<u32>> {
    let Some(text) = text else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
        _ => Err(invalid(format!("`{name}` is between 1 and {most}"))),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(400, "image.params_invalid", message)
}
