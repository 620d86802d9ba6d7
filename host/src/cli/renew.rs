//! `gantry key renew`: changes the secret in a file when that is due. Only who holds a key can keep its next secret, so it runs
//! where the program is, from a timer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cli::client::{Client, Options};
use crate::cli::output;

/// Longest file with a key, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Where the key is, and when to change it.
#[derive(Debug, clap::Args)]
pub(super) struct Renewal {
    /// The file with the key, and nothing else in it.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Change it although it is not due yet.
    #[arg(long)]
    now: bool,
    /// Where the server has its accounts (`gateway.auth_mount`).
    #[arg(long, value_name = "PATH", default_value = "/api/auth")]
    accounts: String,
}

/// What a key may know of itself.
#[derive(Deserialize)]
struct OwnKey {
    id: String,
    is_newest: bool,
    rotate_at: Option<Timestamp>,
    previous_until: Option<Timestamp>,
    token: Option<String>,
}

pub(super) async fn run(renewal: Renewal, server: &Options) -> anyhow::Result<()> {
    let mut kept = Kept::open(&renewal.file)?;
    let token = kept.read()?;
    let client = Client::with_key(server, &token, &renewal.file)?;
    let path = format!("{}/key", renewal.accounts.trim_end_matches('/'));
    let key: OwnKey = client.at(Method::GET, &path).await?;
    if !key.is_newest {
        let until = key.previous_until.map(|at| format!(" and ends at {at}"));
        bail!(
            "the secret in {} is not the newest of {}{}: it was changed elsewhere; put the new one there, or change it \
             with `gantry key rotate {}`",
            renewal.file.display(),
            key.id,
            until.unwrap_or_default(),
            key.id
        )
    }
    let due = key.rotate_at.filter(|at| *at <= Timestamp::now());
    if due.is_none() && !renewal.now {
        let when = match key.rotate_at {
            Some(at) => format!("it is due at {at}"),
            None => "it is never due; `gantry key create --rotate-days` makes keys that are".into(),
        };
        output::progress("Kept", &format!("{}: {when}", key.id));
        return Ok(());
    }
    // The place for the new one first: it is told once.
    let mut draft = kept.draft()?;
    let changed = client.at(Method::POST, &format!("{path}/rotate")).await;
    let changed: OwnKey = changed.inspect_err(|_| kept.forget_draft())?;
    let Some(token) = changed.token.map(Zeroizing::new) else {
        bail!("the server did not tell the new secret")
    };
    kept.replace(&mut draft, &token)
        .with_context(|| cannot("write", &renewal.file))?;
    let until = changed.previous_until.map(|at| at.to_string());
    let until = until.as_deref().unwrap_or("now");
    let text = format!("{}; the secret before counts until {until}", changed.id);
    output::progress("Changed", &text);
    Ok(())
}

/// The file, while nobody else renews it.
struct Kept<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Kept<'a> {
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| cannot("read", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                bail!("another `gantry key renew` is at {}", path.display())
            }
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        Ok(Self { path, file })
    }

    /// The key. If an earlier run ended before its new secret was in place, that comes into place first.
    fn read(&mut self) -> anyhow::Result<Zeroizing<String>> {
        let draft = self.draft_path();
        let left = fs::metadata(&draft).is_ok_and(|found| found.len() > 0);
        let mut text = Zeroizing::new(String::new());
        if left {
            fs::rename(&draft, self.path).with_context(|| cannot("write", self.path))?;
            self.file = File::open(self.path)?;
        }
        let mut file = (&self.file).take(FILE_BYTES_MAX);
        file.read_to_string(&mut text)
            .with_context(|| cannot("read", self.path))?;
        let token = Zeroizing::new(text.trim().to_owned());
        if token.is_empty() {
            bail!("there is no key in {}", self.path.display());
        }
        Ok(token)
    }

    /// An empty file beside it, which the same people may read.
    fn draft(&self) -> anyhow::Result<File> {
        let path = self.draft_path();
        let about = self.file.metadata()?;
        let create = || -> io::Result<File> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let draft = options.open(&path)?;
            let own = draft.metadata()?;
            if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
                fchown(&draft, Some(about.uid()), Some(about.gid()))?;
            }
            draft.set_permissions(about.permissions())?;
            Ok(draft)
        };
        create().with_context(|| cannot("write", &path))
    }

    /// Nothing has come of it, so the file stays as it is.
    fn forget_draft(&self) {
        let _ = fs::remove_file(self.draft_path());
    }

    /// Either the old secret is in the file or the new one, whenever this ends.
    fn replace(&self, draft: &mut File, token: &str) -> io::Result<()> {
        draft.write_all(token.as_bytes())?;
        draft.write_all(b"\n")?;
        draft.sync_all()?;
        fs::rename(self.draft_path(), self.path)?;
        let folder = self.path.parent().filter(|path| *path != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn draft_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".next");
        self.path.with_file_name(name)
    }
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}
