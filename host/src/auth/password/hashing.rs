//! What hashing is: a question about a password, and its answer. The same on a thread of the host and in a process apart.

use argon2::{
    Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _, password_hash::Error,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password, and what it is held against.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Question {
    password: String,
    /// The hash that is kept; nothing for a new password.
    stored: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Whether the password is the one whose hash is kept. A new one is.
    pub(super) is_right: bool,
    /// The password as it is to be kept; nothing if it is kept so already, or is wrong.
    pub(super) hash: Option<String>,
}

impl Question {
    pub(super) fn new(password: &str, stored: Option<&str>) -> Self {
        Self {
            password: password.to_owned(),
            stored: stored.map(str::to_owned),
        }
    }

    /// Tens of milliseconds of processor time, and as much memory as the parameters say.
    pub(super) fn answer(&self, argon2: &Argon2<'_>) -> Result<Answer, Error> {
        let password = self.password.as_bytes();
        if let Some(stored) = &self.stored {
            let stored = PasswordHash::new(stored).map_err(Error::from)?;
            match argon2.verify_password(password, &stored) {
                Ok(()) if is_made_with(&stored, argon2.params()) => {
                    return Ok(Answer {
                        is_right: true,
                        hash: None,
                    });
                }
                Ok(()) => {}
                Err(Error::PasswordInvalid) => {
                    return Ok(Answer {
                        is_right: false,
                        hash: None,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        let hash = argon2.hash_password(password)?;
        Ok(Answer {
            is_right: true,
            hash: Some(hash.to_string()),
        })
    }
}

fn is_made_with(hash: &PasswordHash, params: &argon2::Params) -> bool {
    let is_argon2id = hash.algorithm == argon2::ARGON2ID_IDENT;
    let costs = |params: &argon2::Params| (params.m_cost(), params.t_cost(), params.p_cost());
    let made_with = argon2::Params::try_from(hash);
    is_argon2id && made_with.is_ok_and(|made_with| costs(&made_with) == costs(params))
}
