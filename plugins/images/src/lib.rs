//! Images at other sizes: read within bounds, turned upright, made smaller, and written without metadata. What a file makes
//! the decoders do stays in the sandbox.

mod params;
#[cfg(test)]
mod tests;

use std::io::Cursor;

use gantry_sdk::prelude::*;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};
use image_webp::{ColorType, EncoderParams, WebPEncoder};

use params::{Fit, Format, Params, Wanted};

/// Most bytes of a colour profile that goes on with the image: it says nothing but what the colours mean.
const PROFILE_BYTES_MAX: usize = 16 * 1024;

#[gantry_sdk::transform]
fn render(input: Document, params: Params) -> Result<Document> {
    let wanted = params.check()?;
    let (picture, profile) = read(&input.body, wanted.pixels_max)?;
    let picture = resize(picture, &wanted);
    write(&picture, profile, &wanted)
}

/// The picture, upright, and the profile of its colours. Its size is known before anything is decoded.
fn read(bytes: &[u8], pixels_max: u64) -> Result<(DynamicImage, Option<Vec<u8>>)> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let known = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::WebP,
    ];
    if !reader
        .format()
        .is_some_and(|format| known.contains(&format))
    {
        let message = "an image is JPEG, PNG, GIF or WebP";
        return Err(Error::new(415, "image.type_unsupported", message));
    }
    let mut limits = Limits::no_limits();
    // Four bytes for a pixel, and as much again for what decoders keep beside it.
    limits.max_alloc = Some(pixels_max.saturating_mul(8).saturating_add(1 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| unreadable(&error))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > pixels_max {
        let message =
            format!("the image has {width} x {height} pixels, at most {pixels_max} are decoded");
        return Err(Error::new(422, "image.too_large", message));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().unwrap_or_default();
    let profile = profile.filter(|profile| profile.len() <= PROFILE_BYTES_MAX);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| unreadable(&error))?;
    picture.apply_orientation(orientation);
    Ok((picture, profile))
}

fn unreadable(error: &image::ImageError) -> Error {
    Error::new(
        422,
        "image.unreadable",
        format!("the image cannot be read: {error}"),
    )
}

/// The picture in the size that is wanted, never larger than it was.
fn resize(picture: DynamicImage, wanted: &Wanted) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let (most_wide, most_high) = (wanted.width.min(width), wanted.height.min(height));
    if (most_wide, most_high) == (width, height) {
        return picture;
    }
    // Halving and averaging first is several times as fast, and not visible.
    let is_much =
        u64::from(width) * u64::from(height) > 16 * u64::from(most_wide) * u64::from(most_high);
    let picture = match is_much {
        true if wanted.fit == Fit::Contain => picture.thumbnail(most_wide * 2, most_high * 2),
        _ => picture,
    };
    match wanted.fit {
        Fit::Contain => picture.resize(most_wide, most_high, FilterType::CatmullRom),
        Fit::Cover => picture.resize_to_fill(most_wide, most_high, FilterType::CatmullRom),
    }
}

fn write(picture: &DynamicImage, profile: Option<Vec<u8>>, wanted: &Wanted) -> Result<Document> {
    let (width, height) = (picture.width(), picture.height());
    let has_alpha = picture.color().has_alpha();
    let mut bytes = Vec::new();
    let media_type = match wanted.format {
        Format::WebP => {
            let (pixels, color) = match has_alpha {
                true => (picture.to_rgba8().into_raw(), ColorType::Rgba8),
                false => (picture.to_rgb8().into_raw(), ColorType::Rgb8),
            };
            let mut params = EncoderParams::default();
            params.use_lossy = true;
            params.lossy_quality = wanted.quality;
            let mut encoder = WebPEncoder::new(&mut bytes);
            encoder.set_params(params);
            if let Some(profile) = profile {
                encoder.set_icc_profile(profile);
            }
            encoder.encode(&pixels, width, height, color)?;
            "image/webp"
        }
        Format::Jpeg => {
            let mut encoder = JpegEncoder::new_with_quality(&mut bytes, wanted.quality);
            if let Some(profile) = profile {
                // Only formats without a place for it refuse it.
                let _ = encoder.set_icc_profile(profile);
            }
            let pixels = match has_alpha {
                true => on_white(picture),
                false => picture.to_rgb8(),
            };
            encoder.encode_image(&pixels)?;
            "image/jpeg"
        }
        Format::Png => {
            let mut encoder = PngEncoder::new(&mut bytes);
            if let Some(profile) = profile {
                let _ = encoder.set_icc_profile(profile);
            }
            match has_alpha {
                true => picture.to_rgba8().write_with_encoder(encoder)?,
                false => picture.to_rgb8().write_with_encoder(encoder)?,
            }
            "image/png"
        }
    };
    Ok(Document::new(media_type, bytes))
}

/// JPEG knows no transparency: what is behind the picture is white.
fn on_white(picture: &DynamicImage) -> image::RgbImage {
    let pixels = picture.to_rgba8();
    image::RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        let [red, green, blue, alpha] = pixels.get_pixel(x, y).0;
        let over = |part: u8| {
            let (part, alpha) = (u32::from(part), u32::from(alpha));
            u8::try_from((part * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX)
        };
        image::Rgb([over(red), over(green), over(blue)])
    })
}
