//! What the operator says about providers: other places where people can log in.

use std::{env, fmt, fs, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use url::Url;
use zeroize::Zeroizing;

use crate::auth::external::ExternalAlgorithm;
use crate::auth::{ADMIN, Config};
use crate::ids::RoleName;

/// Longest name of a provider, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Most providers; each has a line on login pages.
const PROVIDERS_MAX: usize = 32;

/// A place where people have accounts, and can log in with them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// What it is called in addresses: 1 to 32 small letters, digits and hyphens, beginning with a letter.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// What people read. Default: the name.
    #[serde(default)]
    pub title: String,
    /// Its address, as it stands in its ID tokens, letter by letter; the rest is found from there. Needed with `oidc`.
    #[serde(default)]
    pub issuer: String,
    /// What it calls this host.
    pub client_id: String,
    /// What this host proves that with. Better in `client_secret_file` or `client_secret_env` than in a file of settings.
    /// Default: none, as some providers want it.
    #[serde(default)]
    pub client_secret: Hidden,
    /// A file with it. Default: none.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// A variable of the environment with it; its name must not begin with `GANTRY_`. Default: none.
    #[serde(default)]
    pub client_secret_env: Option<String>,
    /// What it is asked for. Default: `["openid", "email"]`; with `facebook`, `["email"]`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Who may come from there: people with verified addresses in these domains. Default: everybody.
    #[serde(default)]
    pub email_domains: Vec<String>,
    /// Whether people who have no account here get one. Default: false.
    #[serde(default)]
    pub may_sign_up: bool,
    /// Roles of accounts that begin so. Default: none.
    #[serde(default)]
    pub roles: Vec<RoleName>,
    /// Whether somebody whose address both the provider and this host have verified is logged in to the account with that
    /// address, which is linked. Default: false, people link by themselves.
    #[serde(default)]
    pub links_by_email: bool,
    /// How its ID tokens may be signed. Default: `["RS256", "ES256", "EdDSA"]`.
    #[serde(default = "crate::auth::external::all_algorithms")]
    pub algorithms: Vec<ExternalAlgorithm>,
    /// How far its clock may be off, in seconds, at most 300. Default: 30.
    #[serde(default = "crate::auth::external::default_skew_s")]
    pub skew_s: u32,
    /// Where people log in, with `facebook`. Default: the Graph API, version 23.
    #[serde(default)]
    pub authorization_url: String,
    /// Where codes are exchanged, with `facebook`. Default: as above.
    #[serde(default)]
    pub token_url: String,
    /// Who somebody is, with `facebook`. Default: as above.
    #[serde(default)]
    pub profile_url: String,
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// OpenID Connect, found by discovery.
    Oidc,
    /// The same with what is special about Google: whose addresses its word is good for.
    Google,
    /// OAuth 2.0, and a profile from the Graph API. Its addresses are never taken for verified.
    Facebook,
}

/// A secret within settings; it does not show itself.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Hidden(Zeroizing<String>);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Provider {
    /// The first mistake in these settings.
    fn mistake(&self) -> Option<String> {
        let is_facebook = self.kind == ProviderKind::Facebook;
        let own_urls = [&self.authorization_url, &self.token_url, &self.profile_url];
        let has_own_urls = own_urls.iter().any(|url| !url.is_empty());
        let secrets = [
            !self.client_secret.0.is_empty(),
            self.client_secret_file.is_some(),
            self.client_secret_env.is_some(),
        ];
        let is_setting = |name: &String| name.starts_with("GANTRY_");
        let is_domain = |domain: &String| {
            !domain.is_empty() && *domain == domain.to_ascii_lowercase() && !domain.contains('@')
        };
        let rules = [
            (
                is_name(&self.name),
                "`name` is 1 to 32 small letters, digits and hyphens, begins with a letter and is not `token`",
            ),
            (
                !self.client_id.is_empty() && self.client_id.is_ascii(),
                "`client_id` is needed",
            ),
            (
                secrets.iter().filter(|is_set| **is_set).count() <= 1,
                "one of `client_secret`, `client_secret_file` and `client_secret_env` is enough",
            ),
            (
                !self.client_secret_env.as_ref().is_some_and(is_setting),
                "`client_secret_env` must not begin with `GANTRY_`: that would be a setting",
            ),
            (
                self.kind != ProviderKind::Oidc || is_trusted_url(&self.issuer),
                "`issuer` begins with `https://`",
            ),
            (
                self.kind == ProviderKind::Oidc || self.issuer.is_empty(),
                "`issuer` is for the kind `oidc`",
            ),
            (
                is_facebook || !has_own_urls,
                "`authorization_url`, `token_url` and `profile_url` are for the kind `facebook`; others are found from \
                 the `issuer`",
            ),
            (
                own_urls
                    .iter()
                    .all(|url| url.is_empty() || is_trusted_url(url)),
                "`authorization_url`, `token_url` and `profile_url` begin with `https://`",
            ),
            (
                !is_facebook || secrets.contains(&true),
                "`facebook` needs a client secret",
            ),
            (
                !is_facebook || (!self.links_by_email && self.email_domains.is_empty()),
                "`links_by_email` and `email_domains` need verified addresses, which `facebook` has not",
            ),
            (
                self.email_domains.iter().all(is_domain),
                "`email_domains` are written like `example.com`",
            ),
            (
                !self.roles.iter().any(|role| role.as_str() == ADMIN),
                "`roles` must not have `admin` in them: everybody could give it to themselves",
            ),
            (!self.algorithms.is_empty(), "`algorithms` are needed"),
            (self.skew_s <= 300, "`skew_s` is at most 300"),
        ];
        let (_, rule) = rules.iter().find(|(holds, _)| !holds)?;
        Some(format!("`auth.providers`, `{}`: {rule}", self.name))
    }

    /// What people read.
    pub(in crate::auth) fn title(&self) -> &str {
        match self.title.as_str() {
            "" => &self.name,
            title => title,
        }
    }

    /// What it is asked for.
    pub(super) fn scopes(&self) -> Vec<String> {
        let default: &[&str] = match (self.kind, self.scopes.is_empty()) {
            (_, false) => return self.scopes.clone(),
            (ProviderKind::Facebook, true) => &["email"],
            (_, true) => &["openid", "email"],
        };
        default.iter().map(|&scope| scope.to_owned()).collect()
    }

    /// What this host proves itself with, wherever it is.
    pub(super) fn read_secret(&self) -> Result<Option<Zeroizing<String>>, String> {
        let secret = match (&self.client_secret_file, &self.client_secret_env) {
            (Some(file), _) => {
                let text = fs::read_to_string(file).map(Zeroizing::new);
                let text = text.map_err(|error| {
                    format!(
                        "the client secret of `{}` cannot be read: {error}",
                        self.name
                    )
                })?;
                Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, Some(name)) => {
                let value = env::var(name).map(Zeroizing::new);
                value.map_err(|error| {
                    format!("the client secret of `{}`: `{name}`: {error}", self.name)
                })?
            }
            (None, None) => self.client_secret.0.clone(),
        };
        Ok((!secret.is_empty()).then_some(secret))
    }
}

/// Every mistake in the settings of providers.
pub(in crate::auth) fn mistakes(config: &Config) -> Vec<String> {
    let mut mistakes: Vec<String> = config
        .providers
        .iter()
        .filter_map(Provider::mistake)
        .collect();
    let mut names: Vec<&str> = config
        .providers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    names.sort_unstable();
    let has_twins = names.windows(2).any(|pair| pair[0] == pair[1]);
    let is_used = !config.providers.is_empty();
    let rules = [
        (!has_twins, "`auth.providers` have names of their own"),
        (
            names.len() <= PROVIDERS_MAX,
            "there are at most 32 `auth.providers`",
        ),
        (
            !is_used || is_origin(&config.public_url),
            "`auth.public_url` is where people reach this host, like `https://example.com`; `auth.providers` need it",
        ),
        (
            config.return_paths.iter().all(|path| is_pattern(path))
                && !config.return_paths.is_empty(),
            "`auth.return_paths` are paths like `/welcome`, or `/app/*` for all below",
        ),
        (
            config.return_apps.iter().all(|app| is_app(app)),
            "`auth.return_apps` are addresses like `com.example.app:/login` or `https://app.example.com/login`",
        ),
        (
            (1..=60).contains(&config.fresh_login_minutes),
            "`auth.fresh_login_minutes` must be 1 to 60",
        ),
        (
            (100..=60_000).contains(&config.provider_timeout_ms),
            "`auth.provider_timeout_ms` must be 100 to 60000",
        ),
        (
            config.provider_calls_max > 0
                && config.identities_per_user_max > 0
                && config.used_attempts_max > 0,
            "`auth.provider_calls_max`, `auth.identities_per_user_max` and `auth.used_attempts_max` must be at least 1",
        ),
        (
            (1..=1440).contains(&config.provider_refresh_minutes),
            "`auth.provider_refresh_minutes` must be 1 to 1440",
        ),
    ];
    let broken = rules.iter().filter(|(holds, _)| !holds);
    mistakes.extend(broken.map(|(_, rule)| (*rule).to_owned()));
    mistakes
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    // `POST /oauth/token` is not a provider's.
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name.bytes().all(is_plain)
        && name != "token"
}

/// Whether what goes there is protected on the way: everywhere but on this machine.
pub(super) fn is_trusted_url(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let scheme = url.as_ref().map_or("", Url::scheme);
    let host = url.as_ref().and_then(Url::host_str);
    let is_local = matches!(host, Some("127.0.0.1" | "localhost" | "[::1]"));
    host.is_some() && (scheme == "https" || (is_local && scheme == "http"))
}

fn is_origin(text: &str) -> bool {
    let is_bare = |url: Url| url.origin().ascii_serialization() == text;
    is_trusted_url(text) && Url::parse(text).is_ok_and(is_bare)
}

fn is_app(address: &str) -> bool {
    // Anything else than these is a page or a script of a browser, or not protected on the way.
    let Ok(url) = Url::parse(address) else {
        return false;
    };
    let is_own_scheme = url.scheme().contains('.');
    (is_own_scheme || is_trusted_url(address)) && url.fragment().is_none() && address.is_ascii()
}

fn is_pattern(path: &str) -> bool {
    is_path(
        path.strip_suffix('*')
            .filter(|rest| rest.ends_with('/'))
            .unwrap_or(path),
    )
}

/// Whether it is a path of our own origin and nothing else, however a browser reads it.
pub(super) fn is_path(path: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"/-._~".contains(&c);
    path.starts_with('/')
        && path.bytes().all(is_plain)
        && !path.contains("//")
        && !path.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(providers: &str) -> Config {
        let text = format!("public_url = 'https://shop.example'\n{providers}");
        toml::from_str(&text).unwrap()
    }

    const GOOD: &str = "[[providers]]\nname = 'good'\nkind = 'oidc'\nissuer = 'https://login.example'\nclient_id = 'us'\n";

    #[test]
    fn a_secret_is_read_from_where_it_is_and_never_written() {
        let given = config(&format!("{GOOD}client_secret = 's3cret'"));
        assert_eq!(
            given.providers[0].read_secret().unwrap().unwrap().as_str(),
            "s3cret"
        );
        let written = serde_json::to_string(&given).unwrap();
        assert!(!written.contains("s3cret") && written.contains("***"));
        assert!(!format!("{given:?}").contains("s3cret"));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "of a file\n").unwrap();
        let path = file.path().display();
        let given = config(&format!("{GOOD}client_secret_file = '{path}'"));
        assert_eq!(
            given.providers[0].read_secret().unwrap().unwrap().as_str(),
            "of a file"
        );
        let given = config(&format!("{GOOD}client_secret_env = 'PATH'"));
        assert!(given.providers[0].read_secret().unwrap().is_some());
        for lost in [
            "client_secret_file = '/nowhere'",
            "client_secret_env = 'NO_SUCH_VARIABLE'",
        ] {
            assert!(
                config(&format!("{GOOD}{lost}")).providers[0]
                    .read_secret()
                    .is_err()
            );
        }
        assert!(config(GOOD).providers[0].read_secret().unwrap().is_none());
    }

    #[test]
    fn what_would_be_unsafe_is_refused() {
        for (more, wanted) in [
            ("", ""),
            ("client_secret = 'a'\nclient_secret_env = 'B'", "is enough"),
            ("client_secret_env = 'GANTRY_SECRET'", "would be a setting"),
            ("roles = ['admin']", "`admin`"),
            ("algorithms = []", "`algorithms`"),
            ("skew_s = 301", "`skew_s`"),
            ("email_domains = ['@Example.com']", "`email_domains`"),
            ("token_url = 'https://x.example'", "`token_url`"),
            (GOOD, "names of their own"),
        ] {
            let mistakes = mistakes(&config(&format!("{GOOD}{more}"))).join("; ");
            let is_wanted = mistakes.is_empty() == wanted.is_empty() && mistakes.contains(wanted);
            assert!(is_wanted, "{more}: {mistakes}");
        }
        let facebook = "[[providers]]\nname = 'fb'\nkind = 'facebook'\nclient_id = '1'\n";
        for (more, wanted) in [
            ("client_secret = 'a'", ""),
            ("", "needs a client secret"),
            (
                "client_secret = 'a'\nlinks_by_email = true",
                "`links_by_email`",
            ),
            (
                "client_secret = 'a'\nemail_domains = ['b.c']",
                "`email_domains`",
            ),
            (
                "client_secret = 'a'\ntoken_url = 'http://x.example'",
                "`https://`",
            ),
        ] {
            let mistakes = mistakes(&config(&format!("{facebook}{more}"))).join("; ");
            let is_wanted = mistakes.is_empty() == wanted.is_empty() && mistakes.contains(wanted);
            assert!(is_wanted, "{more}: {mistakes}");
        }
        for (name, is_good) in [
            ("google", true),
            ("token", false),
            ("Google", false),
            ("", false),
            ("a/b", false),
        ] {
            assert_eq!(is_name(name), is_good, "{name}");
        }
    }

    #[test]
    fn only_plain_addresses_are_where_people_come_from_and_go_to() {
        for (origin, is_good) in [
            ("https://shop.example", true),
            ("https://shop.example:8443", true),
            ("http://localhost:8080", true),
            ("http://shop.example", false),
            ("https://shop.example/", false),
            ("https://shop.example/app", false),
            ("https://user@shop.example", false),
            ("shop.example", false),
            ("", false),
        ] {
            assert_eq!(is_origin(origin), is_good, "{origin}");
        }
        for (path, is_good) in [
            ("/", true),
            ("/app/*", true),
            ("/*", true),
            ("/app*", false),
            ("*", false),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("/a/../b", false),
            ("/a?b", false),
            ("/%2e%2e", false),
            ("https://evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_pattern(path), is_good, "{path}");
        }
        for (app, is_good) in [
            ("com.example.app:/login", true),
            ("https://app.example/login", true),
            ("http://127.0.0.1/login", true),
            ("http://app.example/login", false),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("https://app.example/#x", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_app(app), is_good, "{app}");
        }
    }
}
