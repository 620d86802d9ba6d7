//! What the host writes to people, in plain text.

use crate::auth::Config;
use crate::mail::Letter;

/// What has become of a second factor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Factor {
    Added,
    Removed,
}

/// What has become of a login elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum IdentityChange {
    Linked,
    Unlinked,
}

/// Writes in the name of the operator's service.
pub(super) struct Letters {
    service: String,
    confirm_link: String,
    reset_link: String,
}

impl Letters {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            service: config.service_name.clone(),
            confirm_link: config.confirm_link.clone(),
            reset_link: config.reset_link.clone(),
        }
    }

    /// To somebody who wants an account, perhaps one that is opened by a login elsewhere: whose that is, nobody knows here.
    pub(super) fn confirm(
        &self,
        to: &str,
        code: &str,
        hours: u32,
        provider: Option<&str>,
    ) -> Letter {
        let Self { service, .. } = self;
        let how = how(&self.confirm_link, code);
        let whose = provider.map_or(String::new(), |title| {
            format!(
                "The account would be opened by a login at {title}, and whoever has that login would have the account. Go \
                 on only if you have just logged in there yourself.\n\n"
            )
        });
        self.letter(
            to,
            format!("Confirm your e-mail address for {service}"),
            &format!(
                "Somebody, hopefully you, wants to open an account at {service} with this e-mail address.\n\n\
                 {whose}{how}\n\n\
                 This works once and for {hours} hours. If it was not you, do nothing: there is no account then."
            ),
        )
    }

    /// To somebody who has an account and wants another one, or whoever typed this address.
    pub(super) fn registered_already(&self, to: &str) -> Letter {
        let Self { service, .. } = self;
        self.letter(
            to,
            format!("You have an account at {service}"),
            &format!(
                "Somebody, perhaps you, wanted to open an account at {service} with this e-mail address. There is one \
                 already, and nothing was changed.\n\n\
                 If you have forgotten your password, ask for a new one where you log in. If it was not you, you need not \
                 do anything."
            ),
        )
    }

    /// To somebody who has forgotten the password.
    pub(super) fn reset(&self, to: &str, code: &str, minutes: u32) -> Letter {
        let Self { service, .. } = self;
        let how = how(&self.reset_link, code);
        self.letter(
            to,
            format!("Set a new password for {service}"),
            &format!(
                "Somebody, hopefully you, asked to set a new password for your account at {service}.\n\n\
                 {how}\n\n\
                 This works once and for {minutes} minutes. If it was not you, do nothing: your password stays as it is."
            ),
        )
    }

    /// After the password has changed.
    pub(super) fn password_changed(&self, to: &str) -> Letter {
        let Self { service, .. } = self;
        self.letter(
            to,
            format!("Your password for {service} was changed"),
            &format!(
                "The password of your account at {service} was changed, and all sessions were ended.\n\n\
                 If it was not you, set a new one at once (\"forgotten password\") and tell the people who run {service}."
            ),
        )
    }

    /// After a refresh token was used twice.
    pub(super) fn session_copied(&self, to: &str) -> Letter {
        let Self { service, .. } = self;
        self.letter(
            to,
            format!("You were logged out of {service}"),
            &format!(
                "One of your sessions at {service} was used from two places, which a single device does not do. It may have \
                 been copied, so it was ended.\n\n\
                 Log in again. If this happens more than once, change your password and look at the list of your sessions."
            ),
        )
    }

    /// After a second factor was added or removed.
    pub(super) fn factor(&self, to: &str, what: Factor) -> Letter {
        let Self { service, .. } = self;
        let (subject, what) = match what {
            Factor::Added => (
                "A second factor was added",
                "now takes a code of your app, beside the password",
            ),
            Factor::Removed => (
                "The second factor was removed",
                "no longer takes a code of your app",
            ),
        };
        self.letter(
            to,
            format!("{subject} at {service}"),
            &format!(
                "Logging in to your account at {service} {what}.\n\n\
                 If it was not you, change your password at once and tell the people who run {service}."
            ),
        )
    }

    /// After a login elsewhere was linked to the account or taken from it.
    pub(super) fn identity(&self, to: &str, what: IdentityChange, provider: &str) -> Letter {
        let Self { service, .. } = self;
        let (subject, what) = match what {
            IdentityChange::Linked => ("A login was linked", "can now be logged in to with"),
            IdentityChange::Unlinked => {
                ("A login was unlinked", "can no longer be logged in to with")
            }
        };
        self.letter(
            to,
            format!("{subject} at {service}"),
            &format!(
                "Your account at {service} {what} a login at {provider}.\n\n\
                 If it was not you, set a new password at once (\"forgotten password\"), look at your linked logins, and \
                 tell the people who run {service}."
            ),
        )
    }

    fn letter(&self, to: &str, subject: String, body: &str) -> Letter {
        let body = wrapped(body);
        let text = format!("Hello,\n\n{body}\n\n-- \n{}\n", self.service);
        Letter {
            to: to.to_owned(),
            subject,
            text,
        }
    }
}

/// With lines that every mail program shows whole. What is set in (codes, links) stays on one line.
fn wrapped(text: &str) -> String {
    const CHARS_MAX: usize = 72;
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut length = 0;
        for word in line.split_inclusive(' ') {
            let is_set_in = line.starts_with(' ');
            if length > 0 && !is_set_in && length + word.trim_end().chars().count() > CHARS_MAX {
                wrapped.truncate(wrapped.trim_end_matches(' ').len());
                wrapped.push('\n');
                length = 0;
            }
            wrapped.push_str(word);
            length += word.chars().count();
        }
        wrapped.push('\n');
    }
    wrapped.truncate(wrapped.trim_end().len());
    wrapped
}

fn how(link: &str, code: &str) -> String {
    if link.is_empty() {
        format!("This is the code:\n\n    {code}")
    } else {
        format!("Open this page:\n\n    {}", link.replace("{code}", code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_links_stay_whole() {
        let config = Config {
            confirm_link: format!("https://example.com/{}?code={{code}}", "x".repeat(80)),
            ..Config::default()
        };
        let letters = Letters::new(&config);
        let letter = letters.confirm("ann@example.org", "gc_1", 24, Some("the Shop of All Shops"));
        let link = config.confirm_link.replace("{code}", "gc_1");
        for line in letter.text.lines() {
            assert!(line.len() <= 72 || line.trim() == link, "{line}");
        }
        assert!(letter.text.lines().any(|line| line.trim() == link));
        assert!(letter.text.contains("\n\n"));
    }
}
