//! The connection to the mail server, and what its answers mean.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, SinglePart},
    transport::smtp::{
        PoolConfig,
        authentication::Credentials,
        client::{Certificate, Tls as Protection, TlsParameters},
    },
};

use crate::mail::{Config, Error, Letter, config};

/// Connections that are kept for the next message.
const IDLE: Duration = Duration::from_secs(30);
/// The server's codes for what has to do with our login, and with no message (RFC 4954).
const ABOUT_LOGIN: [&str; 5] = ["530", "534", "535", "538", "454"];

pub(super) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// Why a message was not sent.
pub(super) enum Failure {
    /// This message cannot be sent, now or later.
    Message(String),
    /// This message may be sent later; others may be sent now.
    Later(String),
    /// The server cannot be used; no message can be sent now.
    Server(String),
}

impl Smtp {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error::Config(error.to_string());
        let mut parameters = TlsParameters::builder(config.server.clone());
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file)
                .map_err(|error| wrong(&format!("`mail.ca_file` {}: {error}", file.display())))?;
            let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(&error))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let parameters = || parameters.build_rustls().map_err(|error| wrong(&error));
        let protection = match config.tls {
            config::Tls::Starttls => Protection::Required(parameters()?),
            config::Tls::Tls => Protection::Wrapper(parameters()?),
            config::Tls::None => Protection::None,
        };
        let pool = PoolConfig::new()
            .max_size(config.connections_max)
            .idle_timeout(IDLE);
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.server.as_str())
                .port(config.port)
                .tls(protection)
                .timeout(Some(Duration::from_millis(config.timeout_ms)))
                .pool_config(pool);
        if !config.user.is_empty() {
            let password = config.read_password();
            let password =
                password.map_err(|error| wrong(&format!("`mail.password_file`: {error}")))?;
            let user = config.user.clone();
            transport = transport.credentials(Credentials::new(user, password.to_string()));
        }
        Ok(Self {
            transport: transport.build(),
            from: config.from.parse().map_err(|error| wrong(&error))?,
        })
    }

    /// Sends one message. The id stays the same however often it is sent, so that a mail box can tell.
    pub(super) async fn send(&self, id: &str, letter: &Letter) -> Result<(), Failure> {
        let message = self.message(id, letter).map_err(Failure::Message)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let code = error.status().map(|code| code.to_string());
                let is_about_login = code.is_some_and(|code| ABOUT_LOGIN.contains(&&*code));
                let cause = chain(&error);
                Err(match () {
                    () if is_about_login => Failure::Server(cause),
                    () if error.is_permanent() => Failure::Message(cause),
                    () if error.is_transient() => Failure::Later(cause),
                    () => Failure::Server(cause),
                })
            }
        }
    }

    fn message(&self, id: &str, letter: &Letter) -> Result<Message, String> {
        let to: Mailbox = letter.to.parse().map_err(|error| format!("{error}"))?;
        let domain = self.from.email.domain();
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&letter.subject)
            .message_id(Some(format!("<{id}@{domain}>")))
            .date_now()
            // RFC 3834: so that nothing answers by itself.
            .header(AutoSubmitted)
            .singlepart(SinglePart::plain(letter.text.clone()))
            .map_err(|error| error.to_string())
    }
}

#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// What the server said, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<_> = anyhow::Chain::new(error).map(ToString::to_string).collect();
    let line: String = causes
        .join(": ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.chars().take(500).collect()
}
