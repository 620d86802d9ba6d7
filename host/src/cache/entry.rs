//! One thing that is kept: an answer or a value, with its times and what it can be purged by.

use std::{fmt, hash, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;

use crate::cache::TAG_BYTES_MAX;

/// Under what something is kept: a digest of everything that decides what it is, so that two things never share one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl hash::Hash for Key {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        // It is a digest already.
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", hex::encode(&self.0[..8]))
    }
}

/// A name by which entries are purged together: 1 to 128 visible ASCII characters without commas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// Why a text is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to {TAG_BYTES_MAX} visible ASCII characters and no comma")]
pub struct InvalidTag;

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        let is_valid = (1..=TAG_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain);
        is_valid.then(|| Self(text.into())).ok_or(InvalidTag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept.
#[derive(Debug, Clone)]
pub enum Kept {
    /// The head of an answer.
    Answer(Box<Response<()>>),
    /// A value of a plugin.
    Value,
    /// That the last answer could not be kept.
    Refusal,
}

/// For how long something is of use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lives {
    /// It is given out without a question.
    pub fresh: Duration,
    /// After that: it is given out while it is made anew.
    pub while_renewing: Duration,
    /// After being fresh: it is given out if making it anew fails.
    pub if_error: Duration,
}

/// What an entry can be purged by, beside its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    pub tags: Vec<Tag>,
    /// Of an answer: the pattern of its route.
    pub route: Option<Arc<str>>,
    /// Of an answer: the path that was asked for, without the query.
    pub path: Option<Arc<str>>,
}

/// Something to be kept.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub kept: Kept,
    pub body: Bytes,
    pub lives: Lives,
    pub marks: Marks,
}

/// Something that is kept.
#[derive(Debug)]
pub struct Entry {
    /// Unlike that of every other entry of the part.
    pub(super) id: u64,
    pub kept: Kept,
    /// Given out without being copied.
    pub body: Bytes,
    pub marks: Marks,
    stored_ns: u64,
    /// Since when it is in this memory.
    held_ns: u64,
    lives: Lives,
}

/// What an entry takes beside its texts, roughly: itself, its place in the table and in the index.
const ENTRY_BYTES: usize = 400;
/// The same for each mark.
const MARK_BYTES: usize = 100;
/// The same for each header.
const HEADER_BYTES: usize = 64;

impl Entry {
    pub(super) fn new(id: u64, new: NewEntry, now_ns: u64, age: Duration) -> Self {
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        Self {
            id,
            kept: new.kept,
            body: new.body,
            marks: new.marks,
            stored_ns: now_ns.saturating_sub(age_ns),
            held_ns: now_ns,
            lives: new.lives,
        }
    }

    /// How long it is kept already.
    pub fn age(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(now_ns.saturating_sub(self.stored_ns))
    }

    /// How long it is in this memory.
    pub fn held(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(now_ns.saturating_sub(self.held_ns))
    }

    pub(super) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// Whether it is good for nothing any more.
    pub(super) fn is_useless(&self, now_ns: u64) -> bool {
        self.age(now_ns) >= self.useful()
    }

    /// For how long it stays fresh; zero once it is not.
    pub fn fresh_for(&self, now_ns: u64) -> Duration {
        self.lives.fresh.saturating_sub(self.age(now_ns))
    }

    /// Since when it is not fresh any more.
    pub fn stale_for(&self, now_ns: u64) -> Duration {
        self.age(now_ns).saturating_sub(self.lives.fresh)
    }

    /// Whether it may be given out while it is made anew.
    pub fn may_renew_behind(&self, now_ns: u64) -> bool {
        self.age(now_ns) < self.lives.fresh + self.lives.while_renewing
    }

    /// Whether it may be given out because making it anew has failed.
    pub fn may_stand_in(&self, now_ns: u64) -> bool {
        self.age(now_ns) < self.lives.fresh + self.lives.if_error
    }

    /// For how long it is of any use, from when it was kept.
    pub(super) fn useful(&self) -> Duration {
        self.lives.fresh + self.lives.while_renewing.max(self.lives.if_error)
    }

    /// What it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let head = match &self.kept {
            Kept::Answer(head) => {
                let headers = head.headers().iter();
                headers
                    .map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES)
                    .sum()
            }
            Kept::Value | Kept::Refusal => 0,
        };
        let tags = self
            .marks
            .tags
            .iter()
            .map(|tag| tag.as_str().len() + MARK_BYTES);
        let path = self.marks.path.as_ref().map_or(0, |path| path.len());
        ENTRY_BYTES + 2 * MARK_BYTES + self.body.len() + head + tags.sum::<usize>() + path
    }
}
