//! Which entries have which marks, and what was purged lately: an answer that was being made when something it depends on
//! was purged must not be kept.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::cache::{Key, Marks, Tag};

/// What is to be thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    Everything,
    /// Everything with this tag, answers and values.
    Tag(Tag),
    /// The answers of the routes with this pattern.
    Route(Arc<str>),
    /// The answers to requests for this path, whatever their query, and whoever asked.
    Path(Arc<str>),
}

/// A moment in the history of purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    here: u64,
    /// The number of the last purge on the shared server that was seen, if one is known.
    pub(super) remote: Option<u64>,
}

/// Purges that are remembered for answers that are being made. With more of them meanwhile, such an answer is not kept.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_mark: HashMap<Mark, HashMap<Key, u64>>,
    purges: u64,
    recent: VecDeque<Purge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Mark {
    Tag(Arc<str>),
    Route(Arc<str>),
    Path(Arc<str>),
}

impl fmt::Display for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Route(route) => write!(f, "route {route}"),
            Self::Path(path) => write!(f, "path {path}"),
        }
    }
}

impl Purge {
    fn mark(&self) -> Option<Mark> {
        Some(match self {
            Self::Everything => return None,
            Self::Tag(tag) => Mark::Tag(Arc::clone(tag.text())),
            Self::Route(route) => Mark::Route(Arc::clone(route)),
            Self::Path(path) => Mark::Path(Arc::clone(path)),
        })
    }

    /// As it is written for other hosts.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Everything => "*".to_owned(),
            Self::Tag(tag) => format!("t {tag}"),
            Self::Route(route) => format!("r {route}"),
            Self::Path(path) => format!("p {path}"),
        }
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None if text == "*" => Some(Self::Everything),
            Some(("t", tag)) => Some(Self::Tag(tag.parse().ok()?)),
            Some(("r", route)) => Some(Self::Route(route.into())),
            Some(("p", path)) => Some(Self::Path(path.into())),
            _ => None,
        }
    }

    /// Whether something with these marks is meant.
    pub fn means(&self, marks: &Marks) -> bool {
        match self {
            Self::Everything => true,
            Self::Tag(tag) => marks.tags.contains(tag),
            Self::Route(route) => marks.route.as_ref() == Some(route),
            Self::Path(path) => marks.path.as_ref() == Some(path),
        }
    }
}

impl Marks {
    fn all(&self) -> impl Iterator<Item = Mark> {
        let tags = self
            .tags
            .iter()
            .map(|tag| Mark::Tag(Arc::clone(tag.text())));
        let route = self
            .route
            .iter()
            .map(|route| Mark::Route(Arc::clone(route)));
        let path = self.path.iter().map(|path| Mark::Path(Arc::clone(path)));
        tags.chain(route).chain(path)
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment now.
    pub(super) fn stamp(&self, remote: Option<u64>) -> Stamp {
        Stamp {
            here: self.lock().purges,
            remote,
        }
    }

    /// Enters an entry, unless it was purged since.
    #[must_use]
    pub(super) fn enter(&self, key: Key, id: u64, marks: &Marks, since: Stamp) -> bool {
        let mut inner = self.lock();
        if inner.was_purged(marks, since) {
            return false;
        }
        for mark in marks.all() {
            inner.by_mark.entry(mark).or_default().insert(key, id);
        }
        true
    }

    /// Whether something with these marks was purged since.
    pub(super) fn was_purged(&self, marks: &Marks, since: Stamp) -> bool {
        self.lock().was_purged(marks, since)
    }

    /// Takes out an entry that is gone. One that has its key by now stays.
    pub(super) fn leave(&self, key: Key, id: u64, marks: &Marks) {
        let mut inner = self.lock();
        for mark in marks.all() {
            if let Some(keys) = inner.by_mark.get_mut(&mark) {
                if keys.get(&key) == Some(&id) {
                    keys.remove(&key);
                }
                if keys.is_empty() {
                    inner.by_mark.remove(&mark);
                }
            }
        }
    }

    /// Notes a purge, and tells the keys that it means; nothing if it means all.
    pub(super) fn purge(&self, purge: &Purge) -> Option<Vec<Key>> {
        let mut inner = self.lock();
        inner.purges += 1;
        if inner.recent.len() == REMEMBERED {
            inner.recent.pop_front();
        }
        inner.recent.push_back(purge.clone());
        let Some(mark) = purge.mark() else {
            inner.by_mark.clear();
            return None;
        };
        let keys = inner.by_mark.remove(&mark).unwrap_or_default();
        Some(keys.into_keys().collect())
    }
}

impl Inner {
    fn was_purged(&self, marks: &Marks, since: Stamp) -> bool {
        let count = usize::try_from(self.purges - since.here).unwrap_or(usize::MAX);
        if count > self.recent.len() {
            return true;
        }
        let mut latest = self.recent.iter().rev().take(count);
        latest.any(|purge| purge.means(marks))
    }
}
