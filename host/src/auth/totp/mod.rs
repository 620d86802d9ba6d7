//! Second factors: codes from an app (TOTP, RFC 6238), each good once, and recovery codes for who has lost it.

mod store;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use totp_rs::{Builder, Secret, Totp};

use crate::auth::throttle::Parties;
use crate::auth::{Auth, Client, Error, letters};
use crate::db::Transaction;
use crate::ids::UserId;
use crate::ledger::Event;
use crate::seal::Seal;

/// RFC 4226 recommends 160 bits.
const SECRET_BYTES: usize = 20;
/// Clocks of telephones differ: the code before and the one after count, too.
const SKEW_STEPS: u16 = 1;
const STEP_S: u64 = 30;
const RECOVERY_CODES: usize = 10;
/// Without those that look alike. 32 of them, so that each stands for five bits.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
const RECOVERY_LETTERS: usize = 16;

pub(super) struct SecondFactors {
    seal: Seal,
    service: String,
}

/// A second factor that was begun: what an app needs.
#[derive(Clone)]
pub struct TotpBegun {
    /// In base32, to be typed.
    pub secret: String,
    /// `otpauth://…`, to be shown as a QR code.
    pub url: String,
}

/// Whether there is a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TotpStatus {
    pub is_on: bool,
    pub recovery_codes_left: usize,
}

impl SecondFactors {
    pub(super) fn new(key: [u8; 32], service: &str) -> Self {
        Self {
            seal: Seal::new(key),
            // It separates the parts of an address for apps.
            service: service.replace(':', " "),
        }
    }

    fn totp(&self, secret: &[u8], email: &str) -> Result<Totp, Error> {
        let secret = Secret::new(secret.into());
        let builder = Builder::new()
            .with_secret(secret)
            .with_skew(SKEW_STEPS)
            .with_step_duration(STEP_S)
            .with_account_name(email)
            .with_issuer(Some(self.service.as_str()));
        let totp = builder.build();
        totp.map_err(|_| Error::Key("a second factor could not be made"))
    }

    /// The step of a code, if it is right now.
    fn step_of(
        &self,
        user: UserId,
        sealed: &[u8],
        code: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, Error> {
        let secret = self.seal.open(&place_of(user), sealed);
        let secret = secret.map_err(|problem| Error::Corrupt {
            table: "totp",
            id: user.to_string(),
            problem: problem.to_string(),
        })?;
        let totp = self.totp(&secret, "account")?;
        let now_s = u64::try_from(now_ms / 1000).unwrap_or(0);
        let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        let step = totp.check(&code, now_s);
        Ok(step.and_then(|step| i64::try_from(step).ok()))
    }
}

impl Auth {
    /// Begins a second factor for a user who knows the password. It counts when [`Self::confirm_totp`] has seen a code of it.
    /// `TotpOn`, and what [`Self::change_password`] fails with.
    pub async fn begin_totp(
        &self,
        user: UserId,
        password: &str,
        client: &Client,
    ) -> Result<TotpBegun, Error> {
        let account = self.check_password(user, password, &client.network).await?;
        let factors = &self.inner.factors;
        let secret: [u8; SECRET_BYTES] = rand::random();
        let sealed = factors.seal.close(&place_of(user), &secret);
        let now_ms = self.inner.clock.now_ms();
        if !store::begin(&self.inner.store.db, user, &sealed, now_ms).await? {
            return Err(Error::TotpOn);
        }
        let totp = factors.totp(&secret, &account.user.email)?;
        let url = totp.to_url();
        Ok(TotpBegun {
            secret: totp.secret().to_base32(),
            url: url.map_err(|_| Error::Key("a second factor could not be shown"))?,
        })
    }

    /// Confirms a second factor with a code of it; from now on logging in takes one. The recovery codes, which nobody can see
    /// again. `TotpWrong`, `TotpOff`, `TotpOn`, `TooManyAttempts`.
    pub async fn confirm_totp(
        &self,
        user: UserId,
        code: &str,
        client: &Client,
    ) -> Result<Vec<String>, Error> {
        let inner = &self.inner;
        let parties = Parties::new(&format!("totp {user}"), &client.network);
        let now_ms = inner.clock.now_ms();
        self.check_wait(&parties)?;
        let row = store::find(&inner.store.db, user).await?;
        let row = row.ok_or(Error::TotpOff)?;
        if row.is_confirmed {
            return Err(Error::TotpOn);
        }
        let step = inner.factors.step_of(user, &row.sealed, code, now_ms)?;
        let Some(step) = step else {
            inner.throttle.fail(&parties, now_ms);
            let event = Event::failed("totp.failed", user, "auth.totp_wrong");
            self.note_failure(event.by("user", user), &parties);
            return Err(Error::TotpWrong);
        };
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let recovery = to_json(codes.iter().map(|code| digest_of(code)));
        let mut transaction = inner.store.db.begin().await?;
        if !store::confirm(&mut transaction, user, step, &recovery).await? {
            return Err(Error::TotpOn);
        }
        let what = letters::Factor::Added;
        self.end_change(transaction, user, what).await?;
        Ok(codes)
    }

    /// Whether a user has a second factor.
    pub async fn totp_status(&self, user: UserId) -> Result<TotpStatus, Error> {
        let row = store::find(&self.inner.store.db, user).await?;
        let row = row.filter(|row| row.is_confirmed);
        Ok(TotpStatus {
            is_on: row.is_some(),
            recovery_codes_left: row.map_or(0, |row| from_json(&row.recovery).len()),
        })
    }

    /// Removes the second factor of a user who knows the password and has a code. `TotpOff`, `TotpWrong`, and what
    /// [`Self::change_password`] fails with.
    pub async fn remove_totp(
        &self,
        user: UserId,
        password: &str,
        code: &str,
        client: &Client,
    ) -> Result<(), Error> {
        let account = self.check_password(user, password, &client.network).await?;
        if !self.totp_status(user).await?.is_on {
            return Err(Error::TotpOff);
        }
        let checked = self.check_second_factor(user, Some(code)).await;
        if let Err(Error::TotpWrong) = checked {
            let parties = Parties::new(&account.user.email, &client.network);
            self.inner
                .throttle
                .fail(&parties, self.inner.clock.now_ms());
        }
        checked?;
        self.drop_totp(user).await
    }

    /// Removes the second factor of a user, for one who has lost it. `TotpOff`.
    pub async fn drop_totp(&self, user: UserId) -> Result<(), Error> {
        let mut transaction = self.inner.store.db.begin().await?;
        if !store::delete(&mut transaction, user).await? {
            return Err(Error::TotpOff);
        }
        let what = letters::Factor::Removed;
        self.end_change(transaction, user, what).await
    }

    /// Goes on if the user has no second factor, or if this is a code of it. `TotpRequired`, `TotpWrong`.
    pub(super) async fn check_second_factor(
        &self,
        user: UserId,
        code: Option<&str>,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let db = &inner.store.db;
        let row = store::find(db, user).await?;
        let Some(row) = row.filter(|row| row.is_confirmed) else {
            return Ok(());
        };
        let code = code.ok_or(Error::TotpRequired)?;
        let now_ms = inner.clock.now_ms();
        let step = inner.factors.step_of(user, &row.sealed, code, now_ms)?;
        if let Some(step) = step {
            // A code that somebody has looked at is worth nothing once it was used.
            return match store::use_step(db, user, step).await? {
                true => Ok(()),
                false => Err(Error::TotpWrong),
            };
        }
        let digest = digest_of(code);
        let mut left = from_json(&row.recovery);
        let before = left.len();
        left.retain(|kept| !bool::from(kept.as_bytes().ct_eq(digest.as_bytes())));
        if left.len() == before {
            return Err(Error::TotpWrong);
        }
        let after = to_json(left.into_iter());
        match store::set_recovery(db, user, &row.recovery, &after).await? {
            true => {
                tracing::warn!(user.id = %user, "A recovery code was used");
                let event = Event::new("totp.recovery_code_used", user).by("user", user);
                db.note(event);
                Ok(())
            }
            false => Err(Error::TotpWrong),
        }
    }

    /// Commits a change of a second factor together with the letter that tells its owner.
    async fn end_change(
        &self,
        mut transaction: Transaction,
        user: UserId,
        what: letters::Factor,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let account = inner.store.user_by_id(user).await?;
        let account = account.ok_or(Error::UserNotFound)?;
        let letter = inner.letters.factor(&account.user.email, what);
        self.post(&mut transaction, &letter, None).await?;
        let action = match what {
            letters::Factor::Added => "totp.added",
            letters::Factor::Removed => "totp.removed",
        };
        self.commit(transaction, Event::new(action, user)).await?;
        inner.mail.wake();
        tracing::info!(user.id = %user, change = ?what, "A second factor was changed");
        Ok(())
    }
}

impl std::fmt::Debug for TotpBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpBegun")
    }
}

/// For what a secret is sealed.
fn place_of(user: UserId) -> String {
    format!("totp {user}")
}

/// Eighty random bits, in groups of four letters.
fn recovery_code() -> String {
    let letters: [u8; RECOVERY_LETTERS] = rand::random();
    let letters = letters.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let groups: Vec<String> = letters
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join("-")
}

/// Of a recovery code as it is kept, however it was typed.
fn digest_of(code: &str) -> String {
    let letters = code.chars().filter(char::is_ascii_alphanumeric);
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    hex::encode(Sha256::digest(plain))
}

fn to_json(digests: impl Iterator<Item = String>) -> String {
    let digests = digests.map(serde_json::Value::String).collect();
    serde_json::Value::Array(digests).to_string()
}

fn from_json(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, cut to six digits.
        let totp = SecondFactors::new([0; 32], "Example: shop")
            .totp(b"12345678901234567890", "ann@example.org")
            .unwrap();
        for (at_s, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (2_000_000_000, "279037"),
        ] {
            assert_eq!(totp.check(code, at_s), Some(at_s / 30));
            assert_eq!(totp.check(code, at_s + 30), Some(at_s / 30));
            assert_eq!(totp.check(code, at_s + 60), None);
        }
        let url = totp.to_url().unwrap();
        assert!(url.starts_with("otpauth://totp/Example"), "{url}");
        assert!(
            url.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
            "{url}"
        );
    }

    #[test]
    fn a_recovery_code_may_be_typed_in_any_way() {
        let code = recovery_code();
        assert_eq!(code.len(), 19);
        let typed = code.to_uppercase().replace('-', " ");
        assert_eq!(digest_of(&code), digest_of(&typed));
        assert_ne!(digest_of(&code), digest_of(&recovery_code()));
    }
}
