//! `[[files]]`: a path under which the host takes, keeps and gives files for the plugin, without a line of its code. Each
//! entry becomes a few routes, which are held to the same rules as those that the author writes.

mod routes;

use std::{ops::Range, time::Duration};

use toml::{Spanned, de::DeValue};

use super::reader::{Fields, Reader, clip, nearest, parsed, read_flag, refuse_duplicates};
use super::route::{Auth, choice, read_auth, read_permissions};
use super::{Cors, DeclaredPermission, Policy, RateLimit, Route, limit, path};
use crate::ids::{Label, Permission};
use crate::services::blobs::{Rules, TypePattern};

/// Most entries of one manifest.
const FILES_MAX: usize = 32;
/// Most patterns of types in one list.
const TYPES_MAX: usize = 16;
/// Most renditions of one entry.
const RENDITIONS_MAX: usize = 32;
/// Longest side of a rendition, in pixels.
const SIDE_MAX: i64 = 8192;
const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What browsers would run in the name of the site: it is only ever saved, whatever anybody says.
const ACTIVE: [&str; 11] = [
    "application/ecmascript",
    "application/javascript",
    "application/xml",
    "application/x-ecmascript",
    "application/x-javascript",
    "message/rfc822",
    "text/ecmascript",
    "text/html",
    "text/x-ecmascript",
    "text/xml",
    "text/xsl",
];

/// Whether browsers would run what has this media type (without parameters, in small letters).
pub fn is_active(essence: &str) -> bool {
    // Scripts have more names than anybody remembers (`text/jscript`, `text/javascript1.5`), and browsers run all of them.
    let is_script = |subtype: &str| {
        ["javascript", "jscript", "livescript", "x-javascript"]
            .iter()
            .any(|name| subtype.starts_with(name))
    };
    ACTIVE.contains(&essence)
        || essence.strip_prefix("text/").is_some_and(is_script)
        || essence.ends_with("+xml")
        || essence.starts_with("multipart/")
}

/// Files below one path.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// Below the plugin's mount; parameters are allowed: `/houses/{house}/photos`.
    pub path: String,
    /// Where they are kept, one of the plugin's buckets.
    pub bucket: Label,
    /// Who may list and read.
    pub read: Access,
    /// Who may send, go on with and delete.
    pub write: Access,
    /// Whether everybody has files of their own, and nobody those of others. Default: false.
    pub is_owner_only: bool,
    /// What may be sent.
    pub rules: Rules,
    /// What browsers may show in its place; everything else they save. Never what they would run.
    pub inline: Vec<TypePattern>,
    /// Longest life of a link that is good without a login; nothing means that there are none.
    pub link_ttl_max: Option<Duration>,
    /// How long clients may keep a file without asking again; nothing means that they ask.
    pub max_age: Option<Duration>,
    /// Other sizes and formats of images.
    pub renditions: Vec<Rendition>,
}

/// Who may, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    pub auth: Auth,
    pub permissions: Vec<Permission>,
    pub policy: Policy,
    pub limits: Vec<RateLimit>,
}

/// Another size or format of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    pub name: String,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Whether both are filled, and what is over is cut off.
    pub is_cover: bool,
    pub format: ImageFormat,
    /// 1 to 100; nothing means that of the plugin which makes it.
    pub quality: Option<u8>,
}

/// What renditions are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    WebP,
    Jpeg,
    Png,
}

impl ImageFormat {
    /// The word for it in manifests and for the plugin.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebP => "webp",
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::WebP => "image/webp",
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a route of files does, and of which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRoute {
    /// The place of the entry in the manifest.
    pub entry: usize,
    pub action: FileAction,
}

/// What one route of an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAction {
    /// `POST` on the path: a file, or the beginning of a resumable upload.
    Send,
    /// `GET` on the path: which files there are.
    List,
    /// `OPTIONS`: what resumable uploads can do here.
    Discover,
    /// `GET` of one file.
    Read,
    /// `PATCH` and `DELETE` of one file, and `HEAD` of an upload.
    Change,
    /// `GET` of a rendition.
    Render,
    /// `POST` for a link to one file.
    LinkToRead,
    /// `POST` for a link that takes a file.
    LinkToSend,
}

impl Files {
    /// All entries, and the routes that they are. The routes are remembered as `route:N`, going on from `routes_before`.
    pub(super) fn read_all(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        declared: &[DeclaredPermission],
        routes_before: usize,
    ) -> (Vec<(Range<usize>, Self)>, Vec<Route>) {
        let tables = fields.tables(reader, "files", "`[[files]]`", FILES_MAX);
        let (mut all, mut routes) = (Vec::new(), Vec::new());
        for fields in tables {
            let at = fields.span();
            let Some((files, cors, tag)) = Self::read(reader, fields, declared) else {
                continue;
            };
            reader.remember(format!("files:{}", all.len()), at.clone());
            for route in files.routes(all.len(), cors.as_ref(), tag.as_deref()) {
                let index = routes_before + routes.len();
                reader.remember(format!("route:{index}"), at.clone());
                routes.push(route);
            }
            all.push((at, files));
        }
        (all, routes)
    }

    fn read(
        reader: &mut Reader<'_>,
        mut fields: Fields<'_, '_>,
        declared: &[DeclaredPermission],
    ) -> Option<(Self, Option<Cors>, Option<String>)> {
        let at = fields.span();
        let path = fields.required_string(reader, "path", 4096);
        if let Some(path) = &path {
            let text = *path.get_ref();
            let mistake = path::mistake(text).or_else(|| {
                let is_plain = !text.ends_with('/') && !text.contains("{*");
                (!is_plain).then(|| {
                    "files are kept below a path without `/` or `{*…}` at its end".to_owned()
                })
            });
            let taken = ["{id}", "{name}"]
                .into_iter()
                .find(|name| text.contains(name));
            let mistake = mistake.or_else(|| {
                taken.map(|name| format!("`{name}` is the name of a part that the host adds"))
            });
            if let Some(mistake) = mistake {
                reader.mistake(path.span(), format!("`path`: {mistake}"));
            }
        }
        let bucket = fields.required_parsed::<Label>(reader, "bucket");
        let read = Access::read(reader, &mut fields, "read", "`read`", declared);
        let write = Access::read(reader, &mut fields, "write", "`write`", declared);
        let is_owner_only = read_flag(reader, &mut fields, "owner_only").unwrap_or(false);
        if let (true, Some(read), Some(write)) = (is_owner_only, &read, &write)
            && (read.auth != Auth::Required || write.auth != Auth::Required)
        {
            let message = "`owner_only` is about who is logged in";
            let help = "leave `auth` of `read` and `write` at `required`";
            reader.mistake_with_help(at, message, help);
        }
        let bytes_max = fields.size(reader, "bytes_max", 1..=1 << 40);
        let types = read_types(reader, &mut fields, "types");
        let inline = read_types(reader, &mut fields, "inline");
        for (at, pattern) in &inline {
            if is_active(&pattern.to_string()) {
                let message =
                    format!("`inline`: browsers would run `{pattern}` in the name of the site");
                reader.mistake(at.clone(), message);
            }
        }
        let link_ttl_max = fields.duration(reader, "link_ttl_max", SECOND..=WEEK);
        let max_age = fields.duration(reader, "max_age", SECOND..=YEAR);
        let renditions = Rendition::read_all(reader, &mut fields);
        let cors = Cors::read(reader, &mut fields);
        let tag = fields.string(reader, "tag", 64);
        fields.finish(
            reader,
            &["filters", "versions"],
            &[
                (
                    "auth",
                    "write `read = { auth = … }` and `write = { auth = … }`",
                ),
                (
                    "permissions",
                    "write `read = { permissions = […] }` and `write = { … }`",
                ),
                ("body_bytes_max", "did you mean `bytes_max`?"),
                ("mime_types", "did you mean `types`?"),
                ("label", "did you mean `bucket`?"),
            ],
        );
        let plain = |patterns: Vec<(Range<usize>, TypePattern)>| {
            patterns.into_iter().map(|(_, pattern)| pattern).collect()
        };
        let files = Self {
            path: (*path?.get_ref()).to_owned(),
            bucket: bucket?.into_inner(),
            read: read?,
            write: write?,
            is_owner_only,
            rules: Rules {
                bytes_max: bytes_max.map(Spanned::into_inner),
                types: plain(types),
            },
            inline: plain(inline),
            link_ttl_max: link_ttl_max.map(Spanned::into_inner),
            max_age: max_age.map(Spanned::into_inner),
            renditions,
        };
        Some((files, cors, tag.map(|tag| (*tag.get_ref()).to_owned())))
    }

    /// Whether a browser may show this media type (without parameters) in its place.
    pub fn shows(&self, essence: &str) -> bool {
        !is_active(essence) && self.inline.iter().any(|pattern| pattern.matches(essence))
    }

    /// The rendition of this name.
    pub fn rendition(&self, name: &str) -> Option<&Rendition> {
        self.renditions
            .iter()
            .find(|rendition| rendition.name == name)
    }
}

impl Access {
    fn read(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        key: &'static str,
        title: &'static str,
        declared: &[DeclaredPermission],
    ) -> Option<Self> {
        if !fields.has(key) {
            fields.get(key);
            return Some(Self {
                auth: Auth::Required,
                permissions: Vec::new(),
                policy: Policy::default(),
                limits: Vec::new(),
            });
        }
        let mut fields = fields.table(reader, key, title)?;
        let auth = read_auth(reader, &mut fields);
        let permissions = read_permissions(reader, &mut fields, auth, declared);
        let policy = Policy::read(reader, &mut fields, auth);
        let mut shared = limit::Shared::new();
        let limits = limit::read_all(reader, &mut fields, auth, &mut shared);
        fields.finish(
            reader,
            &[],
            &[("permission", "did you mean `permissions`?")],
        );
        Some(Self {
            auth: auth?,
            permissions,
            policy,
            limits,
        })
    }
}

impl Rendition {
    fn read_all(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<Self> {
        let Some(value) = fields.get("renditions") else {
            return Vec::new();
        };
        let DeValue::Table(table) = value.get_ref() else {
            let help = "write `[files.renditions]` with lines like `thumb = { width = 320 }`";
            reader.mistake_with_help(value.span(), "`renditions` must be a table", help);
            return Vec::new();
        };
        if table.len() > RENDITIONS_MAX {
            let message = format!("`renditions` has more than {RENDITIONS_MAX} entries");
            reader.mistake(value.span(), message);
            return Vec::new();
        }
        let mut renditions = Vec::new();
        for (name, value) in table {
            let text: &str = name.get_ref();
            let is_allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            if !(1..=32).contains(&text.len()) || !text.chars().all(is_allowed) {
                let message = format!("`{}` is no name of a rendition", clip(text));
                let help = "1 to 32 small letters, digits, `-` and `_`";
                reader.mistake_with_help(name.span(), message, help);
                continue;
            }
            let Some(fields) = Fields::of(reader, value, "a rendition") else {
                continue;
            };
            renditions.extend(Self::read(reader, fields, text));
        }
        renditions
    }

    fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>, name: &str) -> Option<Self> {
        let at = fields.span();
        let mut side = |reader: &mut Reader<'_>, key| {
            let side = fields.integer(reader, key, 1..=SIDE_MAX)?;
            u32::try_from(side.into_inner()).ok()
        };
        let (width, height) = (side(reader, "width"), side(reader, "height"));
        let fit = fields.string(reader, "fit", 32);
        let is_cover = match fit.as_ref().map(|fit| *fit.get_ref()) {
            None | Some("contain") => false,
            Some("cover") => true,
            Some(_) => {
                let help = "write \"contain\" or \"cover\"";
                let at = fit.map_or(at.clone(), |fit| fit.span());
                reader.mistake_with_help(at, "`fit` cannot be this", help);
                false
            }
        };
        let format = match fields.string(reader, "format", 32) {
            None => Some(ImageFormat::WebP),
            Some(text) => {
                let known = [ImageFormat::WebP, ImageFormat::Jpeg, ImageFormat::Png];
                choice(reader, "format", &text, &known)
            }
        };
        let quality = fields.integer(reader, "quality", 1..=100);
        fields.finish(reader, &[], &[]);
        if width.is_none() && height.is_none() {
            let help = "write for example `{ width = 320 }`";
            reader.mistake_with_help(at, "a rendition has a `width`, a `height`, or both", help);
        } else if is_cover && (width.is_none() || height.is_none()) {
            reader.mistake(at, "`fit = \"cover\"` needs `width` and `height`");
        }
        Some(Self {
            name: name.to_owned(),
            width,
            height,
            is_cover,
            format: format?,
            quality: quality.and_then(|quality| u8::try_from(quality.into_inner()).ok()),
        })
    }
}

/// Tells of entries whose bucket is none of the plugin's, or that of another entry: who may read here could read there.
pub(super) fn check_buckets(
    reader: &mut Reader<'_>,
    files: &[(Range<usize>, Files)],
    buckets: &[Label],
) {
    for (index, (at, entry)) in files.iter().enumerate() {
        let bucket = &entry.bucket;
        if !buckets.contains(bucket) {
            let known: Vec<&str> = buckets.iter().map(Label::as_str).collect();
            let help = match nearest(bucket.as_str(), &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `blobs = [\"{bucket}\"]` in `[capabilities]`"),
            };
            let message = format!("there is no bucket `{bucket}` for `{}`", entry.path);
            reader.mistake_with_help(at.clone(), message, help);
        }
        let mut earlier = files[..index].iter();
        if let Some((_, other)) = earlier.find(|(_, other)| other.bucket == *bucket) {
            let message = format!("the bucket `{bucket}` is that of `{}` already", other.path);
            let help = "each path has a bucket of its own";
            reader.mistake_with_help(at.clone(), message, help);
        }
    }
}

fn read_types(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<(Range<usize>, TypePattern)> {
    let mut patterns = Vec::new();
    for text in fields.strings(reader, key, TYPES_MAX, 127) {
        if let Some(pattern) = parsed::<TypePattern>(reader, key, &text) {
            patterns.push((text.span(), pattern.into_inner()));
        }
    }
    let texts = patterns
        .iter()
        .map(|(at, pattern)| (at.clone(), pattern.to_string()));
    refuse_duplicates(reader, "the type", texts.collect::<Vec<_>>());
    patterns
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::plugins::manifest::Manifest;

    fn parse(more: &str) -> Result<Manifest, Vec<String>> {
        let text = format!(
            "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n\
             [capabilities]\nblobs = [\"photos\"]\n{more}"
        );
        let parsed = Manifest::parse(&text);
        parsed.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_entry_becomes_routes_with_who_may_read_and_who_may_write() {
        let manifest = parse(
            "[[permission]]\nname = \"photos.write\"\ndescription = \"Send photos\"\n\
             [[files]]\npath = \"/photos\"\nbucket = \"photos\"\nread = { auth = \"public\" }\n\
             write = { permissions = [\"photos.write\"] }\nlink_ttl_max = \"1h\"\n\
             [files.renditions]\nthumb = { width = 320 }\n",
        );
        let manifest = manifest.unwrap();
        let routes: Vec<_> = manifest
            .routes
            .iter()
            .map(|route| (route.methods[0].clone(), &*route.path, route.auth))
            .collect();
        assert_eq!(
            routes,
            [
                (Method::POST, "/photos", Auth::Required),
                (Method::GET, "/photos", Auth::Public),
                (Method::OPTIONS, "/photos", Auth::Public),
                (Method::GET, "/photos/{id}", Auth::Public),
                (Method::HEAD, "/photos/{id}", Auth::Required),
                (Method::PATCH, "/photos/{id}", Auth::Required),
                (Method::DELETE, "/photos/{id}", Auth::Required),
                (Method::OPTIONS, "/photos/{id}", Auth::Public),
                (Method::GET, "/photos/{id}/renditions/{name}", Auth::Public),
                (Method::POST, "/photos/{id}/link", Auth::Public),
                (Method::POST, "/photos/link", Auth::Required),
            ]
        );
        assert!(
            manifest
                .routes
                .iter()
                .all(|route| { (route.auth == Auth::Required) == (route.permissions.len() == 1) })
        );
        assert_eq!(manifest.files[0].renditions[0].format, ImageFormat::WebP);
    }

    #[test]
    fn what_cannot_be_kept_or_shown_is_told_with_its_place() {
        let files =
            |more: &str| format!("[[files]]\npath = \"/photos\"\nbucket = \"photos\"\n{more}");
        for (more, told) in [
            (
                "[[files]]\npath = \"/photos/\"\nbucket = \"photos\"\n".to_owned(),
                "10:8: `path`: files are kept below a path without `/` or `{*…}` at its end",
            ),
            (
                "[[files]]\npath = \"/{id}/photos\"\nbucket = \"photos\"\n".to_owned(),
                "10:8: `path`: `{id}` is the name of a part that the host adds",
            ),
            (
                "[[files]]\npath = \"/photos\"\nbucket = \"photo\"\n".to_owned(),
                "9:1: there is no bucket `photo` for `/photos` (did you mean `photos`?)",
            ),
            (
                files("[[files]]\npath = \"/more\"\nbucket = \"photos\"\n"),
                "12:1: the bucket `photos` is that of `/photos` already (each path has a bucket of its own)",
            ),
            (
                files("owner_only = true\nread = { auth = \"public\" }\n"),
                "9:1: `owner_only` is about who is logged in (leave `auth` of `read` and `write` at `required`)",
            ),
            (
                files("inline = [\"image/svg+xml\"]\n"),
                "12:11: `inline`: browsers would run `image/svg+xml` in the name of the site",
            ),
            (
                files("types = [\"png\"]\n"),
                "12:10: `types`: `png` is no media type, like `image/png` or `image/*`",
            ),
            (
                files("body_bytes_max = \"1MiB\"\n"),
                "12:1: unknown key `body_bytes_max` in `[[files]]` (did you mean `bytes_max`?)",
            ),
            (
                files("[files.renditions]\nthumb = { fit = \"cover\", width = 5 }\n"),
                "13:9: `fit = \"cover\"` needs `width` and `height`",
            ),
            (
                files("[files.renditions]\nthumb = {}\n"),
                "13:9: a rendition has a `width`, a `height`, or both (write for example `{ width = 320 }`)",
            ),
            (
                files("[files.renditions]\n\"a/b\" = { width = 5 }\n"),
                "13:1: `a/b` is no name of a rendition (1 to 32 small letters, digits, `-` and `_`)",
            ),
        ] {
            let mistakes = parse(&more).unwrap_err();
            assert_eq!(mistakes, [format!("plugin.toml:{told}")], "{more}");
        }
    }

    #[test]
    fn what_browsers_run_is_never_shown() {
        let manifest = parse(
            "[[files]]\npath = \"/photos\"\nbucket = \"photos\"\ninline = [\"image/*\", \"application/pdf\"]\n",
        );
        let files = &manifest.unwrap().files[0];
        for (essence, is_shown) in [
            ("image/png", true),
            ("application/pdf", true),
            ("image/svg+xml", false),
            ("text/html", false),
            ("text/plain", false),
        ] {
            assert_eq!(files.shows(essence), is_shown, "{essence}");
        }
    }
}
