//! The file with the signed end of the chain, which lies beside the rows: whoever cuts off the end of the trail would have
//! to change it, too, and cannot sign it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::ledger::Checkpoint;

/// Its name.
pub const FILE: &str = "audit.head";
/// Longer than any checkpoint.
const BYTES_MAX: u64 = 4096;

/// The signed ends that lie in a folder: the last one, and those that were put aside because the chain did not go through
/// them. Says what is wrong with the others.
pub fn read(folder: &Path) -> io::Result<(Vec<Checkpoint>, Vec<String>)> {
    let (mut heads, mut problems) = (Vec::new(), Vec::new());
    let mut has_head = false;
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(FILE) || name.ends_with(".partial") {
            continue;
        }
        has_head |= name == FILE;
        match read_one(&file.path()) {
            Ok(head) => heads.extend(head),
            Err(problem) => problems.push(problem),
        }
    }
    if !has_head {
        problems.push(format!("`{FILE}` is missing"));
    }
    Ok((heads, problems))
}

/// The checkpoint in a file; nothing if there is no such file.
pub(super) fn read_one(path: &Path) -> Result<Option<Checkpoint>, String> {
    let shown = path.display();
    let unreadable = |error: &dyn std::fmt::Display| format!("{shown} cannot be read: {error}");
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
        Ok(metadata) if metadata.len() > BYTES_MAX => return Err(unreadable(&"it is too long")),
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let checkpoint = serde_json::from_str(&text);
    checkpoint.map(Some).map_err(|error| unreadable(&error))
}

/// Writes the file so that it is there whole, or as it was before.
pub(super) fn write(folder: &Path, checkpoint: &Checkpoint) -> anyhow::Result<()> {
    let (path, draft) = (folder.join(FILE), folder.join(format!("{FILE}.partial")));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(serde_json::to_string(checkpoint)?.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    Ok(())
}

/// Puts the file aside, for people to look at.
pub(super) fn put_aside(folder: &Path, now_ms: i64) -> io::Result<PathBuf> {
    let (path, kept) = (
        folder.join(FILE),
        folder.join(format!("{FILE}.disputed-{now_ms}")),
    );
    match fs::rename(&path, &kept) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        renamed => renamed.map(|()| kept),
    }
}
