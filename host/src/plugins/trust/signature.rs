//! The file `plugin.sig` of a bundle: which key says that exactly these files are this version of this plugin.
//! docs/operate/signatures.md describes it byte by byte.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};

use super::key::{KeyId, PublicKey};
use crate::ids::PluginName;
use crate::plugins::bundle::FileDigest;

/// The first line. It names the format and sets what is signed here apart from everything else that a key may sign.
const FIRST_LINE: &str = "gantry-signature 1";
/// Most bytes of the file; a bundle with as many files as it may have stays far below.
const BYTES_MAX: usize = 1 << 20;

/// What a signature says, believed only once [`Signature::fits`] was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub key: KeyId,
    pub plugin: PluginName,
    pub version: semver::Version,
    /// All files of the bundle but this one, by path.
    pub files: Vec<FileDigest>,
    signature: [u8; 64],
}

/// Why a text is no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("it does not begin with `{FIRST_LINE}`; this version reads no other form")]
    Form,
    #[error("its line {0} is not as it should be")]
    Line(usize),
    #[error("it is written in another way than the only one that is allowed")]
    NotCanonical,
}

impl Signature {
    /// Signs these files as this version of this plugin.
    pub fn sign(
        key: &SigningKey,
        plugin: PluginName,
        version: semver::Version,
        mut files: Vec<FileDigest>,
    ) -> Self {
        files.sort();
        let mut signed = Self {
            key: KeyId::of(&key.verifying_key()),
            plugin,
            version,
            files,
            signature: [0; 64],
        };
        signed.signature = key.sign(signed.statement().as_bytes()).to_bytes();
        signed
    }

    /// Reads the file. What it says is only a claim.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        if text.len() > BYTES_MAX {
            return Err(Unreadable::TooLong);
        }
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some(FIRST_LINE) {
            return Err(Unreadable::Form);
        }
        let mut field = |name: &str| -> Result<(usize, &str), Unreadable> {
            let (number, line) = lines.next().ok_or(Unreadable::Form)?;
            let value = line
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(' '));
            value
                .map(|value| (number + 1, value))
                .ok_or(Unreadable::Line(number + 1))
        };
        let (number, key) = field("key")?;
        let key = key.parse().map_err(|_| Unreadable::Line(number))?;
        let (number, plugin) = field("plugin")?;
        let plugin = plugin.parse().map_err(|_| Unreadable::Line(number))?;
        let (number, version) = field("version")?;
        let version = version.parse().map_err(|_| Unreadable::Line(number))?;
        let mut files = Vec::new();
        let mut signature = None;
        for (index, line) in lines {
            let wrong = || Unreadable::Line(index + 1);
            if signature.is_some() {
                return Err(wrong());
            }
            match line.split_once(' ') {
                Some(("file", rest)) => files.push(file(rest).ok_or_else(wrong)?),
                Some(("signature", base64)) => {
                    let bytes = BASE64_STANDARD.decode(base64).map_err(|_| wrong())?;
                    signature = Some(bytes.try_into().map_err(|_| wrong())?);
                }
                _ => return Err(wrong()),
            }
        }
        let signature = signature.ok_or(Unreadable::Form)?;
        let read = Self {
            key,
            plugin,
            version,
            files,
            signature,
        };
        // One meaning, one text: nobody can have two texts for what was signed once.
        if read.to_text() == text {
            Ok(read)
        } else {
            Err(Unreadable::NotCanonical)
        }
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let mut text = self.statement();
        let _ = writeln!(text, "signature {}", BASE64_STANDARD.encode(self.signature));
        text
    }

    /// Whether the owner of this key signed exactly this.
    pub fn fits(&self, key: &PublicKey) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature);
        // Strict: no second signature can be made of a first one.
        key.verifying()
            .verify_strict(self.statement().as_bytes(), &signature)
            .is_ok()
    }

    /// The first thing about these files that is not what was signed.
    pub fn difference(&self, files: &[FileDigest]) -> Option<String> {
        for file in files {
            match self.files.iter().find(|signed| signed.path == file.path) {
                None => return Some(format!("the file `{}` was added", file.path)),
                Some(signed) if signed != file => {
                    return Some(format!("the file `{}` was changed", file.path));
                }
                Some(_) => {}
            }
        }
        let missing = self
            .files
            .iter()
            .find(|signed| !files.iter().any(|file| file.path == signed.path));
        missing.map(|signed| format!("the file `{}` is missing", signed.path))
    }

    /// What is signed: everything before the line with the signature.
    fn statement(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\nkey {}\nplugin {}\nversion {}\n",
            self.key, self.plugin, self.version
        );
        for file in &self.files {
            let _ = writeln!(text, "file {} {} {}", file.digest, file.bytes, file.path);
        }
        text
    }
}

/// A digest, a number of bytes and a path.
fn file(text: &str) -> Option<FileDigest> {
    let (digest, rest) = text.split_once(' ')?;
    let (bytes, path) = rest.split_once(' ')?;
    let is_path = !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_graphic());
    is_path.then_some(FileDigest {
        path: path.to_owned(),
        bytes: bytes.parse().ok()?,
        digest: digest.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Digest;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn file_of(path: &str, text: &str) -> FileDigest {
        FileDigest {
            path: path.to_owned(),
            bytes: text.len() as u64,
            digest: Digest::of(text.as_bytes()),
        }
    }

    fn signed() -> Signature {
        let files = vec![
            file_of("plugin.wasm", "code"),
            file_of("plugin.toml", "manifest"),
        ];
        let version = "1.2.0".parse().unwrap();
        Signature::sign(&key(), "shop".parse().unwrap(), version, files)
    }

    #[test]
    fn the_file_looks_as_it_is_documented() {
        let text = signed().to_text();
        let lines: Vec<&str> = text.lines().collect();
        let code = "5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b";
        let manifest = Digest::of(b"manifest");
        assert_eq!(lines[0], "gantry-signature 1");
        assert_eq!(
            lines[1],
            format!("key {}", KeyId::of(&key().verifying_key()))
        );
        assert_eq!(lines[2], "plugin shop");
        assert_eq!(lines[3], "version 1.2.0");
        assert_eq!(lines[4], format!("file {manifest} 8 plugin.toml"));
        assert_eq!(lines[5], format!("file {code} 4 plugin.wasm"));
        assert!(lines[6].starts_with("signature "), "{}", lines[6]);
        assert_eq!((lines.len(), text.ends_with('\n')), (7, true));
    }

    #[test]
    fn what_was_signed_fits_the_key_that_signed_it_and_no_other() {
        let read = Signature::read(&signed().to_text()).unwrap();
        assert_eq!(read, signed());
        assert!(read.fits(&PublicKey::new(key().verifying_key())));
        let other = SigningKey::from_bytes(&[8; 32]);
        assert!(!read.fits(&PublicKey::new(other.verifying_key())));
    }

    #[test]
    fn whatever_is_exchanged_in_the_file_it_fits_no_more() {
        let text = signed().to_text();
        let code = Digest::of(b"code").to_string();
        let evil = Digest::of(b"evil").to_string();
        for (from, to) in [
            ("plugin shop", "plugin bank"),
            ("version 1.2.0", "version 9.2.0"),
            (code.as_str(), evil.as_str()),
            (" 4 plugin.wasm", " 5 plugin.wasm"),
            ("plugin.toml", "plugin.ini"),
        ] {
            assert!(text.contains(from));
            let read = Signature::read(&text.replace(from, to)).unwrap();
            assert!(!read.fits(&PublicKey::new(key().verifying_key())), "{to}");
        }
    }

    #[test]
    fn there_is_one_way_to_write_it() {
        let text = signed().to_text();
        let upper = text.replace(
            &Digest::of(b"code").to_string(),
            &Digest::of(b"code").to_string().to_uppercase(),
        );
        for (what, changed) in [
            ("no end of line", text.trim_end().to_owned()),
            ("a line more", format!("{text}\n")),
            ("another line", format!("{text}file x 1 y\n")),
            ("windows", text.replace('\n', "\r\n")),
            ("large letters", upper),
            ("a plus", text.replace(" 4 plugin", " +4 plugin")),
            ("blanks", text.replace("plugin shop", "plugin  shop")),
            ("another form", text.replace("signature 1", "signature 2")),
            (
                "no signature",
                text.split("signature ").next().unwrap().to_owned(),
            ),
            ("nothing", String::new()),
        ] {
            assert!(Signature::read(&changed).is_err(), "{what}: {changed}");
        }
    }

    #[test]
    fn a_file_that_was_added_changed_or_left_out_is_named() {
        let (toml, wasm) = (
            file_of("plugin.toml", "manifest"),
            file_of("plugin.wasm", "code"),
        );
        let evil = file_of("plugin.wasm", "evil");
        let more = file_of("migrations/main/0001_a.sql", "DROP");
        for (files, wanted) in [
            (vec![toml.clone(), wasm.clone()], None),
            (vec![toml.clone(), evil], Some("`plugin.wasm` was changed")),
            (vec![toml.clone()], Some("`plugin.wasm` is missing")),
            (
                vec![more, toml, wasm],
                Some("`migrations/main/0001_a.sql` was added"),
            ),
        ] {
            let told = signed().difference(&files);
            assert_eq!(told.is_some(), wanted.is_some(), "{told:?}");
            assert!(
                told.unwrap_or_default()
                    .contains(wanted.unwrap_or_default())
            );
        }
    }

    proptest! {
        #[test]
        fn no_byte_that_changes_leaves_a_signature_that_fits(at in 0usize..600, to in any::<u8>()) {
            let text = signed().to_text();
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(changed) = String::from_utf8(bytes)
                && changed != text
                && let Ok(read) = Signature::read(&changed)
            {
                prop_assert!(!read.fits(&PublicKey::new(key().verifying_key())));
            }
        }
    }
}
