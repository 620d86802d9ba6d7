//! Logging in elsewhere: people are sent to a provider and come back with its word on who they are (OpenID Connect, and
//! OAuth 2.0 with Facebook). Whose account that is, is for [`super::identities`] to say.

mod attempt;
mod config;
mod http;
mod live;
mod oidc;
mod store;
#[cfg(test)]
mod tests;

pub use config::{Provider, ProviderKind};
pub use live::ProviderAnswer;

pub(super) use config::mistakes;
pub(super) use live::{Found, Live};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use openidconnect::RedirectUrl;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::codes::{self, Purpose};
use crate::auth::store::Account;
use crate::auth::throttle::Parties;
use crate::auth::{Auth, Client, Config, Error, Keys, Login};
use crate::ledger::Event;
use crate::seal::Seal;

use attempt::Attempt;

/// How long a code is good that stands for a login, for an app to fetch its tokens or for a second factor.
const CODE_LIFE_MS: i64 = 300_000;
/// Bytes of a SHA-256 in base64url.
const CHALLENGE_BYTES: usize = 43;
/// How long a verifier is (RFC 7636, section 4.1).
const VERIFIER_BYTES: std::ops::RangeInclusive<usize> = 43..=128;
/// Attempts can be noted again by then.
const RETRY_AFTER_S: u64 = 60;

/// The providers of this host.
pub(super) struct Providers {
    all: Vec<Live>,
    seal: Seal,
    public_url: String,
    return_paths: Vec<String>,
    return_apps: Vec<String>,
    used_max: i64,
}

/// A way to log in, for login pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderChoice {
    pub name: String,
    /// For people.
    pub title: String,
}

/// What somebody who begins a login wants of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoginWish<'a> {
    /// Where the browser goes in the end. Default: the first place that is allowed.
    pub return_to: Option<&'a str>,
    /// Of an app that fetches its tokens itself: the SHA-256, in base64url, of what it will show for them.
    pub challenge: Option<&'a str>,
    /// Asks the provider to let people choose among their accounts there.
    pub chooses_account: bool,
}

/// A login that has begun.
#[derive(Clone)]
pub struct LoginBegun {
    /// Where the browser goes.
    pub address: String,
    /// What it keeps meanwhile.
    pub attempt: String,
    pub life_s: u64,
}

/// A login that has come back.
#[derive(Debug)]
pub struct LoginEnd {
    /// Where the browser goes.
    pub return_to: String,
    pub outcome: Result<LoginOutcome, Error>,
}

/// What has become of a login at a provider.
pub enum LoginOutcome {
    /// The browser is logged in.
    LoggedIn(Login),
    /// The app fetches its tokens with this code and what it has given the challenge of.
    Code(String),
    /// The account has a second factor. The browser keeps this code until it sends one of that.
    FactorNeeded(String),
}

/// Who may use a code.
#[derive(Clone, Copy)]
pub enum CodeHolder<'a> {
    /// The app that shows this.
    Verifier(&'a str),
    /// The browser that has kept it where only the host put it.
    Browser,
}

/// What a code stands for.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) provider: String,
    pub(super) found: Found,
    challenge: Option<String>,
}

impl Providers {
    pub(super) fn new(config: &Config, keys: &Keys) -> Result<Self, Error> {
        let all = config.providers.iter();
        let all = all.map(|settings| Live::new(settings, config));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            seal: Seal::new(keys.derive("login-attempts")),
            public_url: config.public_url.clone(),
            return_paths: config.return_paths.clone(),
            return_apps: config.return_apps.clone(),
            used_max: i64::from(config.used_attempts_max),
        })
    }

    /// The provider with this name. `ProviderNotFound`.
    pub(super) fn find(&self, name: &str) -> Result<&Live, Error> {
        let found = self.all.iter().find(|live| live.settings.name == name);
        found.ok_or(Error::ProviderNotFound)
    }

    /// Where the provider sends people back to: by the settings and nothing of the request.
    fn redirect(&self, live: &Live, mount: &str) -> Result<RedirectUrl, Error> {
        let (origin, name) = (&self.public_url, &live.settings.name);
        let address = format!("{origin}{mount}/oauth/{name}/callback");
        RedirectUrl::new(address).map_err(|error| Error::Config(error.to_string()))
    }

    /// Where a browser may go in the end.
    fn return_to(&self, wish: &LoginWish<'_>) -> Result<String, Error> {
        let is_allowed = |path: &str| {
            config::is_path(path)
                && self
                    .return_paths
                    .iter()
                    .any(|allowed| match allowed.strip_suffix('*') {
                        Some(begin) => path.starts_with(begin),
                        None => path == allowed,
                    })
        };
        match wish.return_to {
            None => {
                let first = self.return_paths.first().map_or("/", String::as_str);
                Ok(first.trim_end_matches('*').to_owned())
            }
            Some(path) if is_allowed(path) => Ok(path.to_owned()),
            // Letter by letter: other programs of a device can have addresses that begin alike.
            Some(app)
                if wish.challenge.is_some() && self.return_apps.iter().any(|one| one == app) =>
            {
                Ok(app.to_owned())
            }
            Some(_) => Err(Error::ReturnNotAllowed),
        }
    }
}

impl Auth {
    /// The ways to log in elsewhere.
    pub fn list_providers(&self) -> Vec<ProviderChoice> {
        let choice = |live: &Live| ProviderChoice {
            name: live.settings.name.clone(),
            title: live.settings.title().to_owned(),
        };
        self.inner.providers.all.iter().map(choice).collect()
    }

    /// Begins a login at a provider; `mount` is where the host's accounts are. `ProviderNotFound`, `ReturnNotAllowed`,
    /// `ChallengeInvalid`, `ProviderUnavailable`, `Busy`.
    pub async fn begin_provider_login(
        &self,
        provider: &str,
        mount: &str,
        wish: LoginWish<'_>,
    ) -> Result<LoginBegun, Error> {
        let (providers, clock) = (&self.inner.providers, &self.inner.clock);
        let live = providers.find(provider)?;
        let is_digest =
            |text: &str| text.len() == CHALLENGE_BYTES && URL_SAFE_NO_PAD.decode(text).is_ok();
        if wish
            .challenge
            .is_some_and(|challenge| !is_digest(challenge))
        {
            return Err(Error::ChallengeInvalid);
        }
        let return_to = providers.return_to(&wish)?;
        let challenge = wish.challenge.map(str::to_owned);
        let attempt = Attempt::new(provider, return_to, challenge, clock.now_ms());
        let redirect = providers.redirect(live, mount)?;
        let _place = live.http.place()?;
        let address = live.address(&attempt, redirect, wish.chooses_account, clock);
        Ok(LoginBegun {
            address: address.await?,
            attempt: attempt.seal(&providers.seal),
            life_s: attempt::LIFE_MS.unsigned_abs() / 1000,
        })
    }

    /// Ends a login at a provider, in the browser that has begun it and kept `sealed`. Each attempt ends once, whatever comes
    /// of it. `ProviderNotFound`, `AttemptInvalid`, `Busy`; further errors are outcomes, for where the browser came from.
    pub async fn end_provider_login(
        &self,
        provider: &str,
        mount: &str,
        sealed: &str,
        answer: ProviderAnswer<'_>,
        client: &Client,
    ) -> Result<LoginEnd, Error> {
        let providers = &self.inner.providers;
        let live = providers.find(provider)?;
        let now_ms = self.inner.clock.now_ms();
        let attempt = Attempt::open(&providers.seal, sealed, provider, answer.state, now_ms);
        let attempt = attempt.ok_or(Error::AttemptInvalid);
        let attempt = attempt.inspect_err(|error| self.note_refusal(provider, error))?;
        let redirect = providers.redirect(live, mount)?;
        let _place = live.http.place()?;
        let is_first = self.use_attempt(&attempt, now_ms).await;
        is_first.inspect_err(|error| self.note_refusal(provider, error))?;
        let outcome = Box::pin(self.outcome(live, &attempt, answer, redirect, client)).await;
        if let Err(error) = &outcome {
            self.note_refusal(provider, error);
        }
        Ok(LoginEnd {
            return_to: attempt.return_to,
            outcome,
        })
    }

    async fn outcome(
        &self,
        live: &Live,
        attempt: &Attempt,
        answer: ProviderAnswer<'_>,
        redirect: RedirectUrl,
        client: &Client,
    ) -> Result<LoginOutcome, Error> {
        let found = live.found(attempt, answer, redirect, &self.inner.clock);
        let pending = Pending {
            provider: live.settings.name.clone(),
            found: found.await?,
            challenge: attempt.challenge.clone(),
        };
        if pending.challenge.is_some() {
            return Ok(LoginOutcome::Code(self.keep_pending(&pending).await?));
        }
        let account = self.account_of(live, &pending.found).await?;
        match self.check_second_factor(account.user.id, None).await {
            Ok(()) => {}
            Err(Error::TotpRequired) => {
                let code = self.keep_pending(&pending).await?;
                return Ok(LoginOutcome::FactorNeeded(code));
            }
            Err(error) => return Err(error),
        }
        let login = self.log_in_from(live, account, client).await?;
        Ok(LoginOutcome::LoggedIn(login))
    }

    /// Logs in with a code that a login at a provider has ended with; it is good once. `CodeWrong`, `TotpRequired`,
    /// `TotpWrong`, `TooManyAttempts`, and what a login itself fails with.
    pub async fn redeem_login_code(
        &self,
        code: &str,
        holder: CodeHolder<'_>,
        totp: Option<&str>,
        client: &Client,
    ) -> Result<Login, Error> {
        let inner = &self.inner;
        let (pending, redeemed) = self.check_pending(code, holder, client).await?;
        let live = inner.providers.find(&pending.provider)?;
        let account = self.account_of(live, &pending.found).await;
        let account = account.inspect_err(|error| self.note_refusal(&pending.provider, error))?;
        let user = account.user.id;
        let parties = Parties::new(&account.user.email, &client.network);
        self.check_wait(&parties)?;
        if let Err(error) = self.check_second_factor(user, totp).await {
            if matches!(error, Error::TotpWrong) {
                inner.throttle.fail(&parties, inner.clock.now_ms());
                tracing::warn!(user.id = %user, "A login with a wrong second factor failed");
                let event = Event::failed("login.failed", user, "auth.totp_wrong");
                self.note_failure(event, &parties);
            }
            return Err(error);
        }
        let mut transaction = inner.store.db.begin().await?;
        inner.codes.spend(&mut transaction, &redeemed).await?;
        transaction.commit().await?;
        self.log_in_from(live, account, client).await
    }

    /// What a code stands for, if whoever sends it may use it. `CodeWrong`, `TooManyAttempts`.
    pub(super) async fn check_pending(
        &self,
        code: &str,
        holder: CodeHolder<'_>,
        client: &Client,
    ) -> Result<(Pending, codes::Redeemed), Error> {
        let redeemed = self
            .check_code(Purpose::ProviderLogin, code, &client.network)
            .await?;
        let pending: Pending =
            serde_json::from_str(&redeemed.payload).map_err(|_| Error::CodeWrong)?;
        match pending.is_of(holder) {
            true => Ok((pending, redeemed)),
            false => Err(Error::CodeWrong),
        }
    }

    /// For the record: somebody has come from a provider and was not let in.
    fn note_refusal(&self, provider: &str, error: &Error) {
        let event = Event::refused("provider_login.refused", provider, error.code());
        self.inner.store.db.note(event);
    }

    async fn log_in_from(
        &self,
        live: &Live,
        account: Account,
        client: &Client,
    ) -> Result<Login, Error> {
        let user = account.user;
        let tokens = self
            .begin_session(user.id, account.generation, client)
            .await?;
        tracing::info!(
            user.id = %user.id, session.id = %tokens.session, provider = %live.settings.name,
            "A user logged in with a provider"
        );
        Ok(Login { tokens, user })
    }

    async fn keep_pending(&self, pending: &Pending) -> Result<String, Error> {
        let payload = serde_json::to_string(pending).map_err(|_| Error::ProviderRefused)?;
        let auth = self.clone();
        self.change(async move {
            let inner = &auth.inner;
            let mut transaction = inner.store.db.begin().await?;
            // Each for itself: how many there are is bounded by how many there may be in all.
            let subject = format!("login {}", hex::encode(rand::random::<[u8; 16]>()));
            let now_ms = inner.clock.now_ms();
            let purpose = Purpose::ProviderLogin;
            let (tx, life_ms) = (&mut transaction, CODE_LIFE_MS);
            let code = inner
                .codes
                .make(tx, purpose, &subject, &payload, life_ms, now_ms)
                .await?;
            transaction.commit().await?;
            code.ok_or(Error::CodeWrong)
        })
        .await
    }

    /// Notes that an attempt has ended. `AttemptInvalid` if it did before.
    async fn use_attempt(&self, attempt: &Attempt, now_ms: i64) -> Result<(), Error> {
        let state_sha256 = hex::encode(Sha256::digest(&attempt.state));
        let expires_at_ms = attempt.ends_ms();
        let auth = self.clone();
        self.change(async move {
            let mut transaction = auth.inner.store.db.begin().await?;
            let kept_max = auth.inner.providers.used_max;
            if store::count(&mut transaction).await? >= kept_max {
                store::sweep(&mut transaction, now_ms).await?;
                if store::count(&mut transaction).await? >= kept_max {
                    let retry_after_s = RETRY_AFTER_S;
                    return Err(Error::Busy { retry_after_s });
                }
            }
            if !store::use_attempt(&mut transaction, &state_sha256, expires_at_ms).await? {
                return Err(Error::AttemptInvalid);
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Forgets attempts that nobody can come back with.
    pub(super) async fn sweep_attempts(&self) -> Result<(), Error> {
        let mut transaction = self.inner.store.db.begin().await?;
        store::sweep(&mut transaction, self.inner.clock.now_ms()).await?;
        Ok(transaction.commit().await?)
    }
}

impl Pending {
    fn is_of(&self, holder: CodeHolder<'_>) -> bool {
        match (holder, &self.challenge) {
            (CodeHolder::Browser, None) => true,
            (CodeHolder::Verifier(verifier), Some(challenge)) => {
                let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
                VERIFIER_BYTES.contains(&verifier.len())
                    && bool::from(digest.as_bytes().ct_eq(challenge.as_bytes()))
            }
            _ => false,
        }
    }
}

impl std::fmt::Debug for LoginOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LoggedIn(_) => "LoggedIn",
            Self::Code(_) => "Code",
            Self::FactorNeeded(_) => "FactorNeeded",
        })
    }
}

impl std::fmt::Debug for LoginBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginBegun")
    }
}
