//! One-time codes: sent to somebody, good once, for a while, and for a few tries. The rows have a hash of each.

mod store;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::{Config, Error};
use crate::db::Transaction;

/// How every code begins.
const PREFIX: &str = "gc_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 20;
const BYTES: usize = ID_BYTES + SECRET_BYTES;
const HOUR_MS: i64 = 3_600_000;

/// What a code is for. A code of one purpose is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Makes an account; the payload is the hash of its password, or who it is at a provider.
    Register,
    /// Lets a new password be set.
    ResetPassword,
    /// Logs in, or links; the payload is who has logged in at a provider.
    ProviderLogin,
    /// Nothing: it stands for a message that was sent, so that they are counted, or for one that was not.
    Notice,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::ResetPassword => "reset-password",
            Self::ProviderLogin => "provider-login",
            Self::Notice => "notice",
        }
    }
}

/// Makes and takes one-time codes.
pub(super) struct Codes {
    tries_max: i64,
    per_hour_max: i64,
    kept_max: i64,
}

/// A code that came back, and was right.
pub(super) struct Redeemed {
    pub(super) subject: String,
    pub(super) payload: String,
    id: String,
}

impl Codes {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            tries_max: i64::from(config.code_tries_max),
            per_hour_max: i64::from(config.codes_per_hour_max),
            kept_max: i64::from(config.codes_max),
        }
    }

    /// A new code for a subject. None if it had too many in the last hour. If there are too many for this purpose, the oldest of
    /// them goes: codes of one purpose keep none of another from being made, and nobody can have so many made that there are
    /// none for others.
    pub(super) async fn make(
        &self,
        transaction: &mut Transaction,
        purpose: Purpose,
        subject: &str,
        payload: &str,
        life_ms: i64,
        now_ms: i64,
    ) -> Result<Option<String>, Error> {
        let hour_ago_ms = now_ms - HOUR_MS;
        if store::count_since(transaction, subject, hour_ago_ms).await? >= self.per_hour_max {
            return Ok(None);
        }
        let kept = store::count(transaction, purpose.as_str()).await?;
        if kept >= self.kept_max {
            let over = kept - self.kept_max + 1;
            store::delete_oldest(transaction, purpose.as_str(), over).await?;
        }
        let bytes: [u8; BYTES] = rand::random();
        let (id, secret) = bytes.split_at(ID_BYTES);
        let row = store::Row {
            id: hex::encode(id),
            purpose: purpose.as_str().to_owned(),
            subject: subject.to_owned(),
            secret_sha256: hex::encode(Sha256::digest(secret)),
            payload: payload.to_owned(),
            created_at_ms: now_ms,
            expires_at_ms: now_ms + life_ms,
            tries: 0,
        };
        store::insert(transaction, &row).await?;
        Ok(Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Looks whether a code is right, and counts the try. `CodeWrong` for all that is not; commit the transaction then,
    /// too.
    pub(super) async fn check(
        &self,
        transaction: &mut Transaction,
        purpose: Purpose,
        code: &str,
        now_ms: i64,
    ) -> Result<Result<Redeemed, Error>, Error> {
        let Some((id, secret)) = parts(code) else {
            return Ok(Err(Error::CodeWrong));
        };
        let row = store::try_code(transaction, &id, purpose.as_str()).await?;
        let Some(row) = row else {
            return Ok(Err(Error::CodeWrong));
        };
        let digest = hex::encode(Sha256::digest(secret));
        let is_right = bool::from(digest.as_bytes().ct_eq(row.secret_sha256.as_bytes()));
        if row.tries > self.tries_max || !is_right || row.expires_at_ms <= now_ms {
            return Ok(Err(Error::CodeWrong));
        }
        Ok(Ok(Redeemed {
            subject: row.subject,
            payload: row.payload,
            id: row.id,
        }))
    }

    /// Uses a code up. `CodeWrong` if somebody else was faster.
    pub(super) async fn spend(
        &self,
        transaction: &mut Transaction,
        code: &Redeemed,
    ) -> Result<(), Error> {
        if store::delete(transaction, &code.id).await? {
            Ok(())
        } else {
            Err(Error::CodeWrong)
        }
    }

    /// Makes the other codes of a subject for this purpose worthless.
    pub(super) async fn void(
        &self,
        transaction: &mut Transaction,
        purpose: Purpose,
        subject: &str,
    ) -> Result<(), Error> {
        store::expire_subject(transaction, subject, purpose.as_str()).await
    }

    /// Forgets codes that nobody can use any more.
    pub(super) async fn sweep(
        &self,
        transaction: &mut Transaction,
        now_ms: i64,
    ) -> Result<(), Error> {
        store::sweep(transaction, now_ms, now_ms - HOUR_MS).await
    }
}

/// What tries of a code are counted under: its id, or the text if it is none.
pub(super) fn name_of(code: &str) -> String {
    let id = parts(code).map(|(id, _)| id);
    format!("code {}", id.unwrap_or_default())
}

fn parts(code: &str) -> Option<(String, [u8; SECRET_BYTES])> {
    let digits = code.trim().strip_prefix(PREFIX)?;
    let mut bytes = [0; BYTES + 3];
    if digits.len() != (BYTES * 4).div_ceil(3) {
        return None;
    }
    let length = URL_SAFE_NO_PAD.decode_slice(digits, &mut bytes).ok()?;
    let (id, secret) = bytes[..length].split_at_checked(ID_BYTES)?;
    Some((hex::encode(id), secret.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_has_no_parts() {
        let code = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; BYTES]));
        assert_eq!(parts(&code).unwrap().1, [7; SECRET_BYTES]);
        assert!(parts(&format!(" {code}\n")).is_some());
        for text in [
            "",
            "gc_",
            &code[1..],
            &code[..code.len() - 1],
            &format!("{code}A"),
        ] {
            assert!(parts(text).is_none(), "{text}");
        }
    }
}
