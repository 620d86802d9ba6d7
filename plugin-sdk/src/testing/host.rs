//! The functions of the contract, natively: the same names and types as in the generated bindings.

pub(crate) mod blobs;
pub(crate) mod cache;
pub(crate) mod kv;
pub(crate) mod sql;

use super::with;
use crate::bindings::module::gantry::types::types::{Detail, Error};

/// An error of the contract, if the test wants this call to fail.
fn check(call: &str) -> Result<(), Error> {
    let service = call.split('.').next().unwrap_or(call);
    let fails = with(|host| host.failures.contains(call) || host.failures.contains(service));
    if fails {
        Err(Error::Unavailable(injected(call)))
    } else {
        Ok(())
    }
}

fn injected(call: &str) -> Detail {
    detail(&format!("{call}.injected"), "the test lets this call fail")
}

fn detail(code: &str, message: &str) -> Detail {
    Detail {
        code: code.to_owned(),
        message: message.to_owned(),
        retry_after_ms: None,
    }
}

pub(crate) use cache::purge;

pub(crate) mod invocation {
    use super::with;

    pub(crate) fn request_id() -> String {
        "test".to_owned()
    }

    pub(crate) fn traceparent() -> Option<String> {
        None
    }

    pub(crate) fn trigger() -> String {
        "http".to_owned()
    }

    pub(crate) fn route() -> Option<String> {
        None
    }

    pub(crate) fn path_param(name: &str) -> Option<String> {
        path_params()
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn path_params() -> Vec<(String, String)> {
        with(|host| host.path_params.clone())
    }

    pub(crate) fn client_address() -> Option<String> {
        Some("127.0.0.1".to_owned())
    }

    pub(crate) fn remaining_ms() -> u64 {
        10_000
    }

    pub(crate) fn attempt() -> u32 {
        1
    }

    pub(crate) fn idempotency_key() -> Option<String> {
        super::request_headers::get("idempotency-key")
    }
}

pub(crate) mod request_headers {
    use super::with;

    pub(crate) fn get(name: &str) -> Option<String> {
        all()
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn all() -> Vec<(String, String)> {
        with(|host| host.headers.clone())
    }
}

pub(crate) mod identity {
    use super::{Error, detail, with};
    use crate::testing::TestPrincipal;

    pub(crate) struct Principal(TestPrincipal);

    impl Principal {
        pub(crate) fn id(&self) -> String {
            self.0.id.clone()
        }

        pub(crate) fn kind(&self) -> String {
            self.0.kind.clone()
        }

        pub(crate) fn name(&self) -> String {
            self.0.name.clone()
        }

        pub(crate) fn roles(&self) -> Vec<String> {
            self.0.roles.clone()
        }

        pub(crate) fn permissions(&self) -> Vec<String> {
            self.0.permissions.clone()
        }

        pub(crate) fn has_permission(&self, permission: &str) -> bool {
            self.0.permissions.iter().any(|own| own == permission)
        }
    }

    pub(crate) fn current() -> Option<Principal> {
        with(|host| host.principal.clone()).map(Principal)
    }

    pub(crate) fn require(permission: &str) -> Result<Principal, Error> {
        current()
            .filter(|principal| principal.has_permission(permission))
            .ok_or_else(|| {
                Error::Denied(detail(
                    "auth.permission_missing",
                    "the permission is missing",
                ))
            })
    }
}

pub(crate) mod config {
    use super::{check, with};
    pub(crate) use crate::bindings::module::wasi::config::store::Error;

    pub(crate) fn get(key: &str) -> Result<Option<String>, Error> {
        check("config.get").map_err(|error| Error::Io(error.to_string()))?;
        Ok(with(|host| host.config.get(key).cloned()))
    }

    pub(crate) fn get_all() -> Result<Vec<(String, String)>, Error> {
        check("config.get_all").map_err(|error| Error::Io(error.to_string()))?;
        Ok(with(|host| host.config.clone().into_iter().collect()))
    }
}

pub(crate) mod logging {
    use super::with;
    use crate::log::Level;
    use crate::testing::{LogLine, level_name};

    pub(crate) fn log(level: Level, context: &str, message: &str) {
        let line = LogLine {
            level: level_name(level),
            context: context.to_owned(),
            message: message.to_owned(),
        };
        with(|host| host.logs.push(line));
    }
}

pub(crate) mod secrets {
    use super::{Error, check, detail, with};

    pub(crate) struct Secret {
        pub(super) value: Vec<u8>,
    }

    impl Secret {
        pub(crate) fn revision(&self) -> String {
            format!("{}-bytes", self.value.len())
        }
    }

    pub(crate) fn get(label: &str) -> Result<Secret, Error> {
        check("secrets.get")?;
        with(|host| host.secrets.get(label).cloned())
            .map(|value| Secret { value })
            .ok_or_else(|| Error::NotFound(detail("secrets.not_set", "the secret has no value")))
    }
}

pub(crate) mod reveal {
    use super::{Error, check, secrets::Secret};

    pub(crate) fn reveal(secret: &Secret) -> Result<Vec<u8>, Error> {
        check("secrets.reveal")?;
        Ok(secret.value.clone())
    }
}

pub(crate) mod tokens {
    use super::{Error, check, detail, with};

    /// Readable and unsigned: tests are on the plugin's side.
    pub(crate) fn sign(purpose: &str, subject: &str, ttl_ms: u64) -> Result<String, Error> {
        check("tokens.sign")?;
        let expires_at_ms = with(|host| host.now_ms).saturating_add(ttl_ms);
        Ok(format!("{expires_at_ms}~{purpose}~{subject}"))
    }

    pub(crate) fn verify(purpose: &str, token: &str) -> Result<String, Error> {
        check("tokens.verify")?;
        let invalid = || Error::Denied(detail("token.invalid", "the token is not valid"));
        let mut parts = token.splitn(3, '~');
        let expires_at_ms: u64 = parts
            .next()
            .and_then(|text| text.parse().ok())
            .ok_or_else(invalid)?;
        if parts.next() != Some(purpose) {
            return Err(invalid());
        }
        if expires_at_ms <= with(|host| host.now_ms) {
            return Err(Error::Denied(detail(
                "token.expired",
                "the token has expired",
            )));
        }
        parts.next().map(str::to_owned).ok_or_else(invalid)
    }
}

pub(crate) mod outbound {
    use super::{check, with};
    use crate::outbound::{Request, Response};
    use crate::{Error, ErrorKind, Result};

    pub(crate) fn send(request: Request) -> Result<Response> {
        check("outbound.send").map_err(Error::service)?;
        let answer = with(|host| {
            let answers = host.answers.iter().rev();
            let answer = answers
                .filter(|(url, _)| request.url.starts_with(url))
                .map(|(_, answer)| answer.clone())
                .next();
            host.sent.push(request);
            answer
        });
        match answer {
            Some(Ok(response)) => Ok(response),
            Some(Err(message)) => Err(Error::of_kind(
                ErrorKind::Unavailable,
                "outbound.unreachable",
                message,
            )),
            None => Err(Error::of_kind(
                ErrorKind::Denied,
                "outbound.host_not_granted",
                "the test has no answer for this address: see `testing::Host::answer`",
            )),
        }
    }
}
