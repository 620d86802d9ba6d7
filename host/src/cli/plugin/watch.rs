//! Sees when files of a plugin change.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Editors write a file in several steps; this long nothing must happen before it counts as one change.
const QUIET: Duration = Duration::from_millis(80);
/// Longest wait for that quiet.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);
/// Folders that builds write to. Watching them would build for ever.
const NEVER: [&str; 2] = ["target", ".git"];

/// Watches files until it is dropped.
pub(super) struct Watch {
    changes: mpsc::Receiver<PathBuf>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches what these patterns name, relative to the folder: files, folders, `src/**`, `data/*.json`.
    pub(super) fn start(folder: &Path, patterns: &[String]) -> anyhow::Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("there is no folder {}", folder.display()))?;
        let patterns: Vec<Pattern> = patterns
            .iter()
            .map(|pattern| Pattern::new(&folder, pattern))
            .collect();
        let roots: Vec<(PathBuf, RecursiveMode)> = patterns.iter().map(Pattern::root).collect();
        // One is enough: whoever builds afterwards sees all changes.
        let (sender, changes) = mpsc::channel(1);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let Ok(event) = event else { return };
                if matches!(event.kind, EventKind::Access(_)) {
                    return;
                }
                let path = event
                    .paths
                    .into_iter()
                    .find(|path| patterns.iter().any(|pattern| pattern.matches(path)));
                if let Some(path) = path {
                    let _ = sender.try_send(path);
                }
            })?;
        for (root, mode) in roots {
            if root.exists() {
                watcher
                    .watch(&root, mode)
                    .with_context(|| format!("cannot watch {}", root.display()))?;
            }
        }
        Ok(Self {
            changes,
            _watcher: watcher,
        })
    }

    /// Waits for the next change and for the quiet after it. Says one file that changed.
    pub(super) async fn changed(&mut self) -> Option<PathBuf> {
        let path = self.changes.recv().await?;
        let quiet = async {
            while let Ok(Some(_)) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
        };
        let _ = tokio::time::timeout(QUIET_WAIT_MAX, quiet).await;
        Some(path)
    }
}

struct Pattern {
    /// The part without wildcards.
    base: PathBuf,
    /// What must follow it; nothing means the base itself.
    rest: Vec<String>,
}

impl Pattern {
    fn new(folder: &Path, pattern: &str) -> Self {
        let mut base = folder.to_owned();
        let mut parts = pattern.trim_end_matches('/').split('/').peekable();
        while let Some(part) = parts.next_if(|part| !part.contains(['*', '?'])) {
            base.push(part);
        }
        let mut rest: Vec<String> = parts.map(str::to_owned).collect();
        // A file that is not there yet has no other form.
        base = base.canonicalize().unwrap_or(base);
        if rest.is_empty() && base.is_dir() {
            rest.push("**".to_owned());
        }
        Self { base, rest }
    }

    /// What to watch. Editors replace files, so a file is seen through its folder.
    fn root(&self) -> (PathBuf, RecursiveMode) {
        match &self.rest[..] {
            [] => (
                self.base.parent().unwrap_or(&self.base).to_owned(),
                RecursiveMode::NonRecursive,
            ),
            [only] if only != "**" => (self.base.clone(), RecursiveMode::NonRecursive),
            _ => (self.base.clone(), RecursiveMode::Recursive),
        }
    }

    fn matches(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.base) else {
            return false;
        };
        let parts: Vec<&str> = below
            .components()
            .filter_map(|part| match part {
                Component::Normal(part) => part.to_str(),
                _ => None,
            })
            .collect();
        // Who names hidden files in the pattern means them.
        let wants_hidden = self.rest.iter().any(|part| part.starts_with('.'));
        !parts.iter().any(|part| NEVER.contains(part))
            && (wants_hidden || !parts.iter().any(|part| is_scratch(part)))
            && fits(&self.rest, &parts)
    }
}

/// Whether editors and tools make files of this name for themselves, while they save or beside what they edit.
fn is_scratch(name: &str) -> bool {
    const ENDS: [&str; 6] = ["~", ".swp", ".swo", ".swx", ".tmp", ".bak"];
    // Vim tries with this name whether it may write in a folder; JetBrains' editors save through names with `___`.
    name.starts_with('.')
        || name.starts_with('#')
        || name == "4913"
        || name.ends_with("___")
        || ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether a path fits a pattern, part by part; `**` stands for any number of parts.
fn fits(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=path.len()).any(|from| fits(rest, &path[from..]))
        }
        (Some((first, pattern)), Some((part, path))) => {
            fits_part(first, part) && fits(pattern, path)
        }
        _ => false,
    }
}

/// Whether one part fits; `*` stands for any text and `?` for one character.
fn fits_part(pattern: &str, part: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => part.is_empty(),
        Some('*') => part
            .char_indices()
            .map(|(at, _)| at)
            .chain([part.len()])
            .any(|at| fits_part(rest.as_str(), &part[at..])),
        Some(wanted) => {
            let mut given = part.chars();
            given.next().is_some_and(|c| wanted == '?' || wanted == c)
                && fits_part(rest.as_str(), given.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn patterns_mean_what_people_expect() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        fs::create_dir(folder.join("src")).unwrap();
        for (pattern, path, is_match) in [
            ("src/**", "src/lib.rs", true),
            ("src/**", "src/a/b.rs", true),
            ("src", "src/a/b.rs", true),
            ("src/", "src/lib.rs", true),
            ("src/**", "srcs/lib.rs", false),
            ("src/**/*.rs", "src/a/b.rs", true),
            ("src/**/*.rs", "src/b.rs", true),
            ("src/**/*.rs", "src/b.toml", false),
            ("src/*.rs", "src/a/b.rs", false),
            ("*.toml", "plugin.toml", true),
            ("plugin.toml", "plugin.toml", true),
            ("plugin.toml", "src/plugin.toml", false),
            ("data/?.json", "data/a.json", true),
            ("data/?.json", "data/ab.json", false),
            ("**", "target/debug/x", false),
            ("**", ".git/index", false),
            ("**", "a/b", true),
            ("src/**", "src/.lib.rs.swp", false),
            ("src/**", "src/lib.rs~", false),
            ("src/**", "src/4913", false),
            ("src/**", "src/lib.rs.tmp", false),
            ("src/**", "src/#lib.rs#", false),
            ("src/**", "src/.#lib.rs", false),
            ("src/**", "src/lib.rs___jb_tmp___", false),
            ("src/**", "src/.git/index", false),
            ("data/.*", "data/.env", true),
            (".env", ".env", true),
        ] {
            assert_eq!(
                Pattern::new(&folder, pattern).matches(&folder.join(path)),
                is_match,
                "{pattern} {path}"
            );
        }
    }

    #[tokio::test]
    async fn a_burst_of_writes_is_one_change_and_other_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        let mut watch =
            Watch::start(dir.path(), &["src/**".to_owned(), "plugin.toml".to_owned()]).unwrap();
        fs::write(dir.path().join("other.txt"), "x").unwrap();
        for text in ["a", "b", "c"] {
            fs::write(dir.path().join("src/lib.rs"), text).unwrap();
        }
        let changed = tokio::time::timeout(Duration::from_secs(5), watch.changed())
            .await
            .unwrap()
            .unwrap();
        assert!(changed.ends_with("src/lib.rs"), "{}", changed.display());
        assert!(
            watch.changes.try_recv().is_err(),
            "there was one change only"
        );
    }
}
