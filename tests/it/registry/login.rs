//! Registries that want to know who asks: with a password, and with a token for it from somewhere else.

use std::{fs, path::Path, process::Output};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gantry_harness::{OciRegistry, TestHost};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{failed, folder, gantry, succeeded};

/// What everybody's password is here, and what the registry keeps of it.
const PASSWORD: &str = "correct horse";
const HTPASSWD: &str = "ann:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n";

const KEY: &str = include_str!("token.key");
const CERTIFICATE: &str = include_str!("token.crt");

/// A command of somebody whose only credentials are these.
async fn run_as(host: &TestHost, home: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = gantry(host, home, args);
    command
        .env("DOCKER_CONFIG", home.join("docker"))
        .env_remove("GANTRY_REGISTRY_USERNAME")
        .env_remove("GANTRY_REGISTRY_PASSWORD")
        .envs(env.iter().copied());
    command.output().await.unwrap()
}

fn write_docker_config(home: &Path, registry: &OciRegistry, password: &str) {
    let auth = BASE64_STANDARD.encode(format!("ann:{password}"));
    let config = json!({ "auths": { registry.address.to_string(): { "auth": auth } } });
    fs::create_dir_all(home.join("docker")).unwrap();
    fs::write(home.join("docker/config.json"), config.to_string()).unwrap();
}

/// Tries everything that can be wrong with credentials, and then with good ones.
async fn try_logins(registry: &OciRegistry) {
    let (host, dir) = (TestHost::start().await, folder());
    let home = dir.path();
    let place = registry.place("team/hello:1");
    let push = ["plugin", "push", "hello.gantry", &place];
    let told = failed(&run_as(&host, home, &push, &[]).await);
    assert!(told.contains("does not let you"), "{told}");
    assert!(told.contains("docker login"), "{told}");

    write_docker_config(home, registry, "a wrong one");
    let told = failed(&run_as(&host, home, &push, &[]).await);
    assert!(told.contains("does not let you"), "{told}");
    assert!(!told.contains("a wrong one"), "{told}");

    write_docker_config(home, registry, PASSWORD);
    let pushed = run_as(&host, home, &push, &[]).await;
    succeeded(&pushed);
    assert!(!String::from_utf8_lossy(&pushed.stderr).contains(PASSWORD));
    fs::remove_dir_all(home.join("docker")).unwrap();
    let env = [
        ("GANTRY_REGISTRY_USERNAME", "ann"),
        ("GANTRY_REGISTRY_PASSWORD", PASSWORD),
    ];
    let deploy = ["plugin", "deploy", &place];
    succeeded(&run_as(&host, home, &deploy, &env).await);
    host.get("/hello/").await.assert_status(200);
    let told = failed(&run_as(&host, home, &deploy, &env[..1]).await);
    assert!(told.contains("GANTRY_REGISTRY_PASSWORD is not"), "{told}");
    host.stop().await;
}

#[tokio::test]
async fn a_registry_with_passwords_lets_in_who_has_one() {
    let settings = "auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd";
    let files = [("htpasswd", HTPASSWD)];
    if let Some(registry) = OciRegistry::start_with(settings, &files).await {
        try_logins(&registry).await;
    }
}

#[tokio::test]
async fn a_registry_with_tokens_lets_in_who_gets_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("http://{}/token", listener.local_addr().unwrap());
    let settings = format!(
        "auth:\n  token:\n    realm: {realm}\n    service: the-registry\n    issuer: a-test\n    rootcertbundle: DIR/token.crt"
    );
    let files = [("token.crt", CERTIFICATE)];
    let Some(registry) = OciRegistry::start_with(&settings, &files).await else {
        return;
    };
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let answer = answer(&String::from_utf8(head).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    try_logins(&registry).await;
}

/// What a token server says to a request: a token for who has the password.
fn answer(head: &str) -> String {
    let basic = BASE64_STANDARD.encode(format!("ann:{PASSWORD}"));
    let is_ann = head.contains(&format!("authorization: Basic {basic}"));
    let asked = head.contains("service=the-registry")
        && head.contains("scope=repository%3Ateam%2Fhello%3Apu");
    let (status, body) = if is_ann && asked {
        ("200 OK", json!({ "token": token() }).to_string())
    } else {
        ("401 Unauthorized", "{}".to_owned())
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn token() -> String {
    let now = jiff::Timestamp::now().as_second();
    let lines = CERTIFICATE.lines().filter(|line| !line.starts_with("---"));
    let header = Header {
        x5c: Some(vec![lines.collect()]),
        ..Header::new(Algorithm::ES256)
    };
    let claims = json!({
        "iss": "a-test", "sub": "ann", "aud": "the-registry", "jti": "1",
        "iat": now, "nbf": now - 60, "exp": now + 300,
        "access": [{ "type": "repository", "name": "team/hello", "actions": ["pull", "push"] }],
    });
    let key = EncodingKey::from_ec_pem(KEY.as_bytes()).unwrap();
    encode(&header, &claims, &key).unwrap()
}
