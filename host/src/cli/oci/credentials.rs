//! Who somebody is to a registry: from the environment, or from where `docker login` left it.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use serde_json::Value;
use zeroize::Zeroizing;

/// Most bytes of Docker's settings, and of what a helper answers.
const BYTES_MAX: u64 = 1 << 20;
const USERNAME: &str = "GANTRY_REGISTRY_USERNAME";
const PASSWORD: &str = "GANTRY_REGISTRY_PASSWORD";

/// A name and a password. Neither is ever shown.
pub(super) struct Credentials {
    username: String,
    password: Zeroizing<String>,
}

impl Credentials {
    /// What there is for this registry, if anything.
    pub(super) fn find(host: &str) -> anyhow::Result<Option<Self>> {
        if let Ok(username) = env::var(USERNAME) {
            let password = env::var(PASSWORD)
                .with_context(|| format!("{USERNAME} is set and {PASSWORD} is not"))?;
            return Ok(Some(Self {
                username,
                password: password.into(),
            }));
        }
        let Some(file) = docker_config() else {
            return Ok(None);
        };
        let Ok(opened) = fs::File::open(&file) else {
            return Ok(None);
        };
        let mut text = Zeroizing::new(String::new());
        let cannot = || format!("cannot understand {}", file.display());
        opened
            .take(BYTES_MAX)
            .read_to_string(&mut text)
            .with_context(cannot)?;
        // A parser's message could quote what is in it.
        let config: Value = serde_json::from_str(&text)
            .map_err(|_| anyhow::anyhow!("{}: it is not JSON", cannot()))?;
        of_docker(&config, host, ask_helper)
    }

    /// As the header of a request.
    pub(super) fn basic(&self) -> anyhow::Result<HeaderValue> {
        let pair = Zeroizing::new(format!("{}:{}", self.username, &*self.password));
        let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
        let mut value = HeaderValue::from_str(&value)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn docker_config() -> Option<PathBuf> {
    let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")))?;
    Some(folder.join("config.json"))
}

/// What Docker's settings say about a registry. `ask` runs the program that keeps credentials elsewhere.
fn of_docker(
    config: &Value,
    host: &str,
    ask: impl Fn(&str, &str) -> anyhow::Result<Option<Credentials>>,
) -> anyhow::Result<Option<Credentials>> {
    let names = names_of(host);
    let mut helpers = names
        .iter()
        .filter_map(|name| Some((config["credHelpers"][name].as_str()?, name)));
    if let Some((helper, name)) = helpers.next() {
        return ask(helper, name);
    }
    for name in &names {
        let entry = &config["auths"][name];
        if let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) {
            return of_pair(auth).map(Some);
        }
        if let (Some(username), Some(password)) =
            (entry["username"].as_str(), entry["password"].as_str())
        {
            return Ok(Some(Credentials {
                username: username.to_owned(),
                password: password.to_owned().into(),
            }));
        }
        if entry["identitytoken"].is_string() {
            bail!(
                "Docker has only an identity token for {host}, which is not supported; set {USERNAME} and {PASSWORD}"
            );
        }
        if let Some(store) = config["credsStore"].as_str()
            && !entry.is_null()
        {
            return ask(store, name);
        }
    }
    Ok(None)
}

/// The names under which Docker may know a registry.
fn names_of(host: &str) -> Vec<String> {
    let mut names = vec![host.to_owned(), format!("https://{host}")];
    if host == "docker.io" {
        names.push("https://index.docker.io/v1/".to_owned());
    }
    names
}

fn of_pair(auth: &str) -> anyhow::Result<Credentials> {
    let unreadable = || anyhow::anyhow!("Docker's settings hold credentials that cannot be read");
    let pair = Zeroizing::new(BASE64_STANDARD.decode(auth).map_err(|_| unreadable())?);
    let pair = std::str::from_utf8(&pair).map_err(|_| unreadable())?;
    let (username, password) = pair.split_once(':').ok_or_else(unreadable)?;
    Ok(Credentials {
        username: username.to_owned(),
        password: password.to_owned().into(),
    })
}

/// Asks `docker-credential-NAME`, as Docker does.
fn ask_helper(helper: &str, registry: &str) -> anyhow::Result<Option<Credentials>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if helper.is_empty() || !helper.chars().all(is_plain) {
        bail!("Docker's settings name a credential helper that is no program's name");
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}, which Docker's settings name"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(registry.as_bytes())?;
    }
    let mut answer = Zeroizing::new(String::new());
    if let Some(stdout) = child.stdout.take() {
        stdout.take(BYTES_MAX).read_to_string(&mut answer)?;
    }
    if !child.wait()?.success() {
        // It has none for this registry, which is no mistake: much can be pulled without.
        return Ok(None);
    }
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|_| anyhow::anyhow!("{program} answers with something that is not JSON"))?;
    match (answer["Username"].as_str(), answer["Secret"].as_str()) {
        (Some("<token>"), _) => bail!(
            "{program} has only an identity token for {registry}, which is not supported; set {USERNAME} and {PASSWORD}"
        ),
        (Some(username), Some(password)) => Ok(Some(Credentials {
            username: username.to_owned(),
            password: password.to_owned().into(),
        })),
        _ => bail!("{program} answers without a name or a secret"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(config: &Value, host: &str) -> Option<String> {
        let ask = |helper: &str, registry: &str| {
            Ok(Some(Credentials {
                username: helper.to_owned(),
                password: registry.to_owned().into(),
            }))
        };
        let found = of_docker(config, host, ask).unwrap()?;
        Some(format!("{}:{}", found.username, &*found.password))
    }

    #[test]
    fn credentials_are_found_as_docker_finds_them() {
        let config = json!({
            "auths": {
                "a.example.com": { "auth": "YW5uOnM6ZWNyZXQ=" },
                "https://b.example.com": { "username": "bob", "password": "x" },
                "https://index.docker.io/v1/": { "auth": "ZG9jOmtlcg==" },
                "c.example.com": {},
            },
            "credsStore": "pass",
            "credHelpers": { "d.example.com": "cloud" },
        });
        for (host, wanted) in [
            ("a.example.com", Some("ann:s:ecret")),
            ("b.example.com", Some("bob:x")),
            ("c.example.com", Some("pass:c.example.com")),
            ("d.example.com", Some("cloud:d.example.com")),
            ("docker.io", Some("doc:ker")),
            ("e.example.com", None),
        ] {
            assert_eq!(found(&config, host).as_deref(), wanted, "{host}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_and_not_shown() {
        for (entry, word) in [
            (json!({ "auth": "!!secret!!" }), "cannot be read"),
            (json!({ "identitytoken": "secret" }), "not supported"),
        ] {
            let config = json!({ "auths": { "h": entry } });
            let told = of_docker(&config, "h", |_, _| Ok(None));
            let told = told.err().unwrap().to_string();
            assert!(told.contains(word) && !told.contains("secret"), "{told}");
        }
        assert!(ask_helper("../evil", "h").is_err());
    }
}
