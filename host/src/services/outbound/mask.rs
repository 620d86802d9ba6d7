//! Keeps a secret that the host sent along out of what comes back. Servers repeat what they were sent more often than one
//! thinks: in error pages, in answers made for debugging.
//!
//! Found is the secret as it was sent, not what the other side makes of it (compressed, in base64). So a host that is
//! given a secret must be one that is trusted with it; this catches its accidents.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;
use zeroize::Zeroizing;

use super::Injection;

/// Shorter secrets stand in many an answer by chance, and what is that short can be guessed anyway.
const SECRET_BYTES_MIN: usize = 8;
const COVER: u8 = b'*';

/// Covers secrets in an answer. Without any it costs nothing.
#[derive(Default)]
pub(super) struct Mask {
    secrets: Vec<Zeroizing<Vec<u8>>>,
    /// Bytes of the body that came and were not passed on.
    kept: BytesMut,
}

impl Mask {
    /// Covers these from now on, because they went out.
    pub(super) fn add<'a>(&mut self, sent: impl Iterator<Item = &'a Injection>) {
        let secrets = sent.map(|injection| injection.secret.clone());
        self.secrets
            .extend(secrets.filter(|secret| secret.len() >= SECRET_BYTES_MIN));
    }

    pub(super) fn cover_headers(&self, headers: &mut HeaderMap) {
        if self.secrets.is_empty() {
            return;
        }
        for value in headers.values_mut() {
            let mut bytes = BytesMut::from(value.as_bytes());
            if self.cover(&mut bytes)
                && let Ok(covered) = HeaderValue::from_bytes(&bytes)
            {
                *value = covered;
            }
        }
    }

    /// The next piece of a body. What could be the beginning of a secret is kept for later; how much that is does not
    /// depend on what it is, or a plugin could find out a secret byte by byte.
    pub(super) fn next(&mut self, piece: Bytes) -> Bytes {
        let Some(longest) = self.secrets.iter().map(|secret| secret.len()).max() else {
            return piece;
        };
        self.kept.extend_from_slice(&piece);
        self.cover_kept();
        let ready = self.kept.len().saturating_sub(longest - 1);
        self.kept.split_to(ready).freeze()
    }

    /// What is left when the body is over.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        let rest = self.kept.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    /// Bytes that came and were not passed on.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept.len() as u64
    }

    fn cover_kept(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        self.cover(&mut kept);
        self.kept = kept;
    }

    /// Whether there was something to cover. The length stays as it was announced.
    fn cover(&self, bytes: &mut [u8]) -> bool {
        let mut found = Vec::new();
        // All are found before one is covered, as they may overlap.
        for secret in &self.secrets {
            let finder = Finder::new(secret.as_slice());
            let mut from = 0;
            while let Some(at) = finder.find(&bytes[from..]) {
                found.push((from + at)..(from + at + secret.len()));
                from += at + 1;
            }
        }
        for place in &found {
            bytes[place.clone()].fill(COVER);
        }
        !found.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn mask(secrets: &[&[u8]]) -> Mask {
        let header = HeaderName::from_static("authorization");
        let injections: Vec<Injection> = secrets
            .iter()
            .map(|secret| Injection::new("a.example", header.clone(), "Bearer ", secret).unwrap())
            .collect();
        let mut mask = Mask::default();
        mask.add(injections.iter());
        mask
    }

    fn passed(mask: &mut Mask, pieces: &[&[u8]]) -> Vec<u8> {
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(&mask.next(Bytes::copy_from_slice(piece)));
        }
        passed.extend_from_slice(&mask.rest().unwrap_or_default());
        passed
    }

    #[test]
    fn a_secret_is_covered_also_across_pieces_and_nothing_else_is() {
        for (pieces, wanted) in [
            (&["a s3cr3t-key b"][..], "a ********** b"),
            (&["a s3cr", "3t-key b"], "a ********** b"),
            (&["s3cr3t-kes3cr3t-key"], "s3cr3t-ke**********"),
            (&["s3cr3t-ke"], "s3cr3t-ke"),
            (
                &["s", "3", "c", "r", "3", "t", "-", "k", "e", "y"],
                "**********",
            ),
            (&[""], ""),
        ] {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let passed = passed(&mut mask(&[b"s3cr3t-key"]), &pieces);
            assert_eq!(String::from_utf8(passed).unwrap(), wanted);
        }
        let short = passed(&mut mask(&[b"short"]), &[b"a short one"]);
        assert_eq!(short, b"a short one");
    }

    #[test]
    fn how_much_is_kept_back_tells_nothing_of_the_secret() {
        for guess in ["s3cr3t-k", "________"] {
            let passed = mask(&[b"s3cr3t-key"]).next(Bytes::from(format!("0123456789{guess}")));
            assert_eq!(passed, "012345678", "{guess}");
        }
    }

    proptest! {
        #[test]
        fn no_division_into_pieces_lets_a_secret_through(
            secret in "[!-~]{8,40}",
            other in "[!-~]{8,12}",
            before in "[ -~]{0,60}",
            after in "[ -~]{0,60}",
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let body = format!("{before}{secret}{secret}{other}{after}{secret}").into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
            let passed = passed(&mut mask(&[secret.as_bytes(), other.as_bytes()]), &pieces);
            prop_assert_eq!(passed.len(), body.len());
            for secret in [&secret, &other] {
                // A secret of covers only would be there afterwards, and tells nothing.
                let is_covers = secret.bytes().all(|byte| byte == COVER);
                let text = String::from_utf8_lossy(&passed);
                prop_assert!(is_covers || !text.contains(secret.as_str()), "{} in {}", secret, text);
            }
        }
    }
}
