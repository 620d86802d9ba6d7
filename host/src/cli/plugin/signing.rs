//! Signing on this machine: the file of a private key, and the signature that goes into a bundle. The key never leaves the
//! machine and is never shown.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding,
};
use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use zeroize::Zeroizing;

use crate::cli::output;
use crate::plugins::bundle::{self, Bundle, with_signature};
use crate::plugins::manifest::Manifest;
use crate::plugins::trust::{PublicKey, Signature};

/// Most bytes of the file of a key.
const KEY_FILE_BYTES_MAX: u64 = 8 << 10;

/// With which key to sign.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct SigningArgs {
    /// Sign the plugin with the private key in this file, made by `gantry plugin keygen`.
    #[arg(long = "sign-key", env = "GANTRY_SIGN_KEY", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl SigningArgs {
    /// Whether something will be signed.
    pub(super) fn is_given(&self) -> bool {
        self.file.is_some()
    }

    /// The bundle with a signature, or as it is if there is no key to sign with.
    pub(super) fn apply(&self, bundle: Bytes) -> anyhow::Result<Bytes> {
        let Some(file) = &self.file else {
            return Ok(bundle);
        };
        let (signed, signature) = sign(&bundle, &read_key(file)?)?;
        tell(&signature);
        Ok(signed)
    }
}

/// Says what was signed.
pub(super) fn tell(signature: &Signature) {
    let what = format!(
        "{} {} with the key {}",
        signature.plugin, signature.version, signature.key
    );
    output::progress("Signed", &what);
}

/// A bundle with the signature of this key over all its files, and that signature.
pub(super) fn sign(bundle: &Bytes, key: &SigningKey) -> anyhow::Result<(Bytes, Signature)> {
    let config = bundle::Config::default();
    let read = Bundle::read(bundle, &config)?;
    let manifest = Manifest::parse(&read.manifest);
    let manifest = manifest.map_err(bundle::BundleError::Manifest)?;
    let about = manifest.plugin;
    let signature = Signature::sign(key, about.name, about.version, read.files);
    let signed = with_signature(bundle, &signature.to_text(), &config)?;
    Ok((signed, signature))
}

/// Makes a key: a private one in `file`, for its owner only, and the public one beside it in `file.pub`. Nothing that is
/// there is overwritten.
pub(super) fn generate(file: &Path) -> anyhow::Result<PublicKey> {
    let seed = Zeroizing::new(rand::random::<[u8; SECRET_KEY_LENGTH]>());
    let key = SigningKey::from_bytes(&seed);
    let public = PublicKey::new(key.verifying_key());
    let pem = key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| anyhow::anyhow!("the key cannot be written down"))?;
    // The public one first: if there is one already, the private one that it belongs to may be elsewhere.
    write_new(&public_file(file), &format!("{public}\n"), 0o644)?;
    if let Err(error) = write_new(file, &pem, 0o600) {
        let _ = fs::remove_file(public_file(file));
        return Err(error);
    }
    Ok(public)
}

/// Where the public key of a private one is.
pub(super) fn public_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The private key in this file, which nobody else may be able to read.
pub(super) fn read_key(file: &Path) -> anyhow::Result<SigningKey> {
    let cannot = || format!("cannot read the key {}", file.display());
    let opened = fs::File::open(file).with_context(cannot)?;
    let metadata = opened.metadata().with_context(cannot)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "others can read {0}; take that right away with `chmod 600 {0}`, and if others may have read it, use a new key",
            file.display()
        );
    }
    let mut pem = Zeroizing::new(String::new());
    let read = opened.take(KEY_FILE_BYTES_MAX).read_to_string(&mut pem);
    read.with_context(cannot)?;
    // What is wrong with it could quote it.
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| {
        anyhow::anyhow!(
            "{} holds no private key of `gantry plugin keygen` (Ed25519, PKCS#8, PEM)",
            file.display()
        )
    })
}

/// A public key: itself, or the file that it is in.
pub(in crate::cli) fn read_public(text: &str) -> anyhow::Result<PublicKey> {
    if text.starts_with("ed25519:") {
        return Ok(text.parse()?);
    }
    let path = Path::new(text);
    let file =
        fs::File::open(path).with_context(|| format!("cannot read the public key {text}"))?;
    let mut content = String::new();
    let read = file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut content);
    if read.is_err() || content.contains("PRIVATE KEY") {
        bail!("{text} holds no public key; it is in the file that ends with .pub");
    }
    Ok(content.parse()?)
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_for_its_owner_only_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.key");
        let public = generate(&file).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let key = read_key(&file).unwrap();
        assert_eq!(PublicKey::new(key.verifying_key()), public);
        let shown = public_file(&file).display().to_string();
        assert_eq!(read_public(&shown).unwrap(), public);
        assert_eq!(read_public(&public.to_string()).unwrap(), public);
    }

    #[test]
    fn a_key_is_never_overwritten_and_one_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.key");
        generate(&file).unwrap();
        let before = fs::read(&file).unwrap();
        assert!(generate(&file).is_err());
        fs::remove_file(public_file(&file)).unwrap();
        assert!(generate(&file).is_err());
        assert_eq!(fs::read(&file).unwrap(), before);
        assert!(
            !public_file(&file).exists(),
            "a public key without its private one"
        );

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let told = format!("{:#}", read_key(&file).unwrap_err());
        assert!(told.contains("chmod 600"), "{told}");
        assert!(!told.contains("PRIVATE"), "{told}");
    }

    #[test]
    fn a_key_that_openssl_made_signs_too() {
        // `openssl genpkey -algorithm ed25519`, and what `openssl pkey -pubout` says of it.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIGYNnDjBLQH7HfRtVIba7V/BvR4ddhYrREV55EXFOcyS\n\
                   -----END PRIVATE KEY-----\n";
        let public = "ed25519:81hXfJi/Y73xgfWqT6Mkpc+kCE6tcrY5nC9NRDu9PQM=";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.key");
        write_new(&file, pem, 0o600).unwrap();
        let key = read_key(&file).unwrap();
        assert_eq!(PublicKey::new(key.verifying_key()).to_string(), public);
    }

    #[test]
    fn what_is_no_key_is_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.key");
        write_new(&file, "-----BEGIN PRIVATE KEY-----\nhunter2\n", 0o600).unwrap();
        let told = format!("{:#}", read_key(&file).unwrap_err());
        assert!(!told.contains("hunter2"), "{told}");
        let told = format!(
            "{:#}",
            read_public(&file.display().to_string()).unwrap_err()
        );
        assert!(told.contains(".pub") && !told.contains("hunter2"), "{told}");
    }
}
