//! Makes a bundle of an author's folder. Same files, same bytes: names are sorted and times are fixed, so that the
//! digest says whether anything changed.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::Path,
};

use bytes::Bytes;
use zip::{
    CompressionMethod, DateTime, ZipArchive, ZipWriter, result::ZipResult, write::SimpleFileOptions,
};

use super::{Bundle, BundleError, COMPONENT, Config, MANIFEST, SIGNATURE, migration_name};
use crate::ids::PluginName;
use crate::plugins::manifest::{Auth, Manifest};

/// The bundle of a folder that holds `plugin.toml` and, built already, what it names. Used by the command line.
pub fn pack(folder: &Path, config: &Config) -> Result<Bytes, BundleError> {
    let text = read(&folder.join(MANIFEST), config)?;
    let text = String::from_utf8(text).map_err(|_| BundleError::NotText {
        path: MANIFEST.to_owned(),
    })?;
    let manifest = Manifest::parse(&text).map_err(BundleError::Manifest)?;
    let component = read(&folder.join(&manifest.component.path), config)?;
    let mut files = vec![
        (MANIFEST.to_owned(), text.into_bytes()),
        (COMPONENT.to_owned(), component),
    ];
    for database in &manifest.capabilities.sql {
        let Some(migrations) = &database.migrations else {
            continue;
        };
        let inner = folder.join(migrations);
        let failed = |source| BundleError::Io {
            path: inner.clone(),
            source,
        };
        for entry in fs::read_dir(&inner).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            // Any other file is a migration with a wrong name, which must not be left out in silence.
            if migration_name(&name).is_none() {
                let path = format!("{migrations}/{name}");
                return Err(BundleError::MigrationName { path });
            }
            let sql = read(&entry.path(), config)?;
            files.push((format!("migrations/{}/{name}", database.label), sql));
        }
    }
    files.sort();
    let bytes: Bytes = write(&files)
        .map_err(|source| BundleError::Io {
            path: folder.to_owned(),
            source: io::Error::other(source),
        })?
        .into();
    // What the server would refuse is refused here, before it travels.
    Bundle::read(&bytes, config)?;
    Ok(bytes)
}

/// The bundle of a component that comes without a manifest, as the server would take it for: every method on every path
/// below the mount, open to everybody. So it can be signed.
pub fn pack_component(
    name: &PluginName,
    component: Bytes,
    config: &Config,
) -> Result<Bytes, BundleError> {
    let manifest = Manifest::for_bare_component(name, "/", Auth::Public);
    let files = [
        (MANIFEST.to_owned(), manifest.into_bytes()),
        (COMPONENT.to_owned(), component.into()),
    ];
    let bytes: Bytes = write(&files).map_err(|error| unwritable(&error))?.into();
    Bundle::read(&bytes, config)?;
    Ok(bytes)
}

/// The same bundle with this signature, in place of the one it had.
pub fn with_signature(
    bytes: &Bytes,
    signature: &str,
    config: &Config,
) -> Result<Bytes, BundleError> {
    let attach = || -> ZipResult<Vec<u8>> {
        let mut from = ZipArchive::new(Cursor::new(bytes))?;
        let mut to = ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..from.len() {
            let file = from.by_index_raw(index)?;
            if file.name_raw() != SIGNATURE.as_bytes() {
                to.raw_copy_file(file)?;
            }
        }
        to.start_file(SIGNATURE, options())?;
        to.write_all(signature.as_bytes())?;
        to.finish().map(Cursor::into_inner)
    };
    let bytes: Bytes = attach().map_err(|error| unwritable(&error))?.into();
    Bundle::read(&bytes, config)?;
    Ok(bytes)
}

fn unwritable(error: &zip::result::ZipError) -> BundleError {
    BundleError::Damaged {
        reason: error.to_string(),
    }
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
}

fn write(files: &[(String, Vec<u8>)]) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(name, options())?;
        archive.write_all(bytes)?;
    }
    archive.finish().map(Cursor::into_inner)
}

fn read(path: &Path, config: &Config) -> Result<Vec<u8>, BundleError> {
    let failed = |source| BundleError::Io {
        path: path.to_owned(),
        source,
    };
    let max = config.unpacked_bytes_max;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > max {
        return Err(BundleError::UnpackedTooLarge { max });
    }
    Ok(bytes)
}
