use gantry_sdk::serde_json::{Value, json};
use gantry_sdk::testing::transform;
use image::{Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

/// Red on the left, blue on the right.
fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| match x < width / 2 {
        true => Rgb([220, 20, 20]),
        false => Rgb([20, 20, 220]),
    })
}

fn bytes(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn rendered(input: Vec<u8>, params: Value) -> Result<(String, DynamicImage)> {
    let output = transform(&render, Document::new("image/any", input), params)?;
    let picture = image::load_from_memory(&output.body).unwrap();
    Ok((output.content_type, picture))
}

/// The photo with an Exif block that says how to turn it and has a secret in it.
fn turned(orientation: u8) -> Vec<u8> {
    let plain = bytes(photo(40, 20), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif.extend(b"GPS 48.8584 N");
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let mut file = plain[..2].to_vec();
    file.extend([0xff, 0xe1]);
    file.extend(length);
    file.extend(exif);
    file.extend(&plain[2..]);
    file
}

#[test]
fn an_image_is_made_smaller_and_never_larger() {
    for (params, wanted) in [
        (json!({ "width": "320" }), (320, 160)),
        (json!({ "height": "50" }), (100, 50)),
        (json!({ "width": "100", "height": "100" }), (100, 50)),
        (
            json!({ "width": "100", "height": "100", "fit": "cover" }),
            (100, 100),
        ),
        (json!({ "width": "4000" }), (640, 320)),
        (json!({}), (640, 320)),
    ] {
        for (format, media_type) in [
            ("webp", "image/webp"),
            ("jpeg", "image/jpeg"),
            ("png", "image/png"),
        ] {
            let mut params = params.clone();
            params["format"] = format.into();

            let input = bytes(photo(640, 320), ImageFormat::Png);
            let (found, picture) = rendered(input, params.clone()).unwrap();

            assert_eq!(found, media_type);
            assert_eq!((picture.width(), picture.height()), wanted, "{params}");
            let [red, _, blue] = picture.to_rgb8().get_pixel(2, 2).0;
            assert!(red > 180 && blue < 70, "{params}: {red} {blue}");
        }
    }
}

#[test]
fn every_format_that_is_known_is_read() {
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::WebP,
    ] {
        let picture = DynamicImage::from(photo(64, 32)).to_rgba8();
        let input = match format {
            ImageFormat::Jpeg => bytes(photo(64, 32), format),
            _ => bytes(picture, format),
        };
        let (_, picture) = rendered(input, json!({ "width": "16" })).unwrap();
        assert_eq!((picture.width(), picture.height()), (16, 8), "{format:?}");
    }
}

#[test]
fn what_the_camera_says_is_applied_and_left_out() {
    let input = turned(6);
    assert!(String::from_utf8_lossy(&input).contains("GPS"));
    for format in ["webp", "jpeg", "png"] {
        let params = json!({ "format": format });
        let output = transform(&render, Document::new("image/jpeg", input.clone()), params);
        let output = output.unwrap().body;
        assert!(!String::from_utf8_lossy(&output).contains("GPS"));
        assert!(!String::from_utf8_lossy(&output).contains("Exif"));
        let picture = image::load_from_memory(&output).unwrap();
        // A quarter to the right: what was on the left is now at the top.
        assert_eq!((picture.width(), picture.height()), (20, 40), "{format}");
        let [red, _, blue] = picture.to_rgb8().get_pixel(10, 2).0;
        assert!(red > blue, "{format}");
    }
}

#[test]
fn transparency_stays_where_a_format_has_it_and_is_white_elsewhere() {
    let input = bytes(
        RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 0])),
        ImageFormat::Png,
    );
    for (format, wanted) in [("png", 0), ("webp", 0), ("jpeg", 255)] {
        let (_, picture) = rendered(input.clone(), json!({ "format": format })).unwrap();
        let [red, _, _, alpha] = picture.to_rgba8().get_pixel(4, 4).0;
        assert_eq!(alpha, wanted, "{format}");
        assert!(format != "jpeg" || red > 250, "{format}");
    }
}

#[test]
fn a_bomb_is_refused_by_what_it_says_of_itself() {
    // A PNG of 60000 x 60000 pixels in some hundred bytes: nothing of it is decoded.
    let mut bomb = bytes(photo(1, 1), ImageFormat::Png);
    bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = rendered(bomb, json!({})).unwrap_err();
    assert_eq!((error.status(), error.code()), (422, "image.too_large"));

    let small = bytes(photo(100, 100), ImageFormat::Png);
    let error = rendered(small, json!({ "pixels_max": "9999" })).unwrap_err();
    assert_eq!(error.code(), "image.too_large");
}

#[test]
fn what_is_no_image_or_makes_no_sense_is_refused_with_a_code() {
    let photo = bytes(photo(10, 10), ImageFormat::Png);
    for (input, params, status, code) in [
        (
            b"<svg onload=\"alert(1)\"/>".to_vec(),
            json!({}),
            415,
            "image.type_unsupported",
        ),
        (photo[..60].to_vec(), json!({}), 422, "image.unreadable"),
        (
            photo.clone(),
            json!({ "width": "0" }),
            400,
            "image.params_invalid",
        ),
        (
            photo.clone(),
            json!({ "fit": "cover", "width": "5" }),
            400,
            "image.params_invalid",
        ),
        (
            photo.clone(),
            json!({ "format": "tiff" }),
            400,
            "image.params_invalid",
        ),
        (
            photo,
            json!({ "blur": "5" }),
            422,
            "transform.invalid_params",
        ),
    ] {
        let error = rendered(input, params).unwrap_err();
        assert_eq!((error.status(), error.code()), (status, code));
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
