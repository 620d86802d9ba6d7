//! `gantry doctor`: what is missing or wrong on this machine, each with how to mend it.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::admin::status::StatusBody;
use crate::cli::client::{Client, Options, find_data_dir};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Less free space than this is a finding.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Tokens and times in logs go wrong when clocks differ by more.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);
const TARGET: &str = "wasm32-wasip2";

/// One thing looked at.
struct Finding {
    what: &'static str,
    /// What is so, or what is wrong and how to mend it.
    state: Result<String, String>,
}

pub(super) async fn run(_args: Args, options: &Options) -> anyhow::Result<()> {
    let data_dir = find_data_dir(options.data_dir.as_deref());
    let mut findings = vec![Finding {
        what: "wasm target",
        state: wasm_target(),
    }];
    if let Some(dir) = &data_dir {
        findings.push(Finding {
            what: "data directory",
            state: private(dir, "700"),
        });
        findings.push(Finding {
            what: "administrator's key",
            state: private(&dir.join("admin.key"), "600"),
        });
    } else {
        let state =
            Ok("none here; a server on this machine makes one at its first start".to_owned());
        findings.push(Finding {
            what: "data directory",
            state,
        });
    }
    findings.push(Finding {
        what: "disk",
        state: disk(data_dir.as_deref().unwrap_or(Path::new("."))),
    });
    findings.extend(server(options).await);
    let mut count_wrong = 0;
    for finding in &findings {
        match &finding.state {
            Ok(state) => output::print(&format!("  ok    {}: {state}\n", finding.what)),
            Err(state) => {
                count_wrong += 1;
                output::print(&format!("  WRONG {}: {state}\n", finding.what));
            }
        }
    }
    if count_wrong > 0 {
        bail!(
            "{count_wrong} of {} checks found something to mend",
            findings.len()
        );
    }
    output::next("gantry plugin new hello");
    Ok(())
}

fn wasm_target() -> Result<String, String> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let output = output
        .map_err(|_| "there is no `rustc`; install Rust from https://rustup.rs".to_owned())?;
    let libraries = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(libraries.trim()).is_dir() {
        Ok(format!("{TARGET} is installed"))
    } else {
        Err(format!(
            "{TARGET} is not installed; run `rustup target add {TARGET}`"
        ))
    }
}

/// Whether nobody else can read this.
fn private(path: &Path, mode_wanted: &str) -> Result<String, String> {
    let shown = path.display();
    let metadata =
        std::fs::metadata(path).map_err(|error| format!("cannot look at {shown}: {error}"))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(format!("{shown} is readable by its owner only"))
    } else {
        Err(format!(
            "others can read {shown} (mode {mode:o}); run `chmod {mode_wanted} {shown}`"
        ))
    }
}

fn disk(path: &Path) -> Result<String, String> {
    let stat =
        rustix::fs::statvfs(path).map_err(|error| format!("cannot look at the disk: {error}"))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{} MiB are free", free >> 20);
    if free >= FREE_BYTES_MIN {
        Ok(text)
    } else {
        Err(format!(
            "only {text}; make room before rows cannot be written"
        ))
    }
}

async fn server(options: &Options) -> Vec<Finding> {
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding {
                what: "server",
                state: Err(format!("{error:#}")),
            }];
        }
    };
    let clock = match client.date().await {
        Ok(date) => clock(date.as_deref(), SystemTime::now()),
        Err(error) => {
            let state = Err(format!(
                "{error:#}; start one with `gantry serve`, or name another with --server"
            ));
            return vec![Finding {
                what: "server",
                state,
            }];
        }
    };
    let mut idle = Vec::new();
    let status = match client.get::<StatusBody>(&["status"]).await {
        Ok(status) => {
            idle = status.idle_settings;
            Ok(format!(
                "{} answers, Gantry {}",
                client.address(""),
                status.version
            ))
        }
        Err(error) if client.has_key() => Err(format!("{error:#}")),
        Err(_) => Err(format!(
            "{} answers, but there is no API key; set GANTRY_API_KEY",
            client.address("")
        )),
    };
    let mut findings = vec![
        Finding {
            what: "server",
            state: status,
        },
        Finding {
            what: "clock",
            state: clock,
        },
    ];
    findings.extend(idle.into_iter().map(|setting| Finding {
        what: "settings",
        state: Err(setting),
    }));
    findings
}

/// Compares this machine's clock with the server's `Date`.
fn clock(date: Option<&str>, now: SystemTime) -> Result<String, String> {
    static DATES: DateTimeParser = DateTimeParser::new();
    let date = date.and_then(|date| DATES.parse_timestamp(date).ok());
    let now = Timestamp::try_from(now).ok();
    let (Some(date), Some(now)) = (date, now) else {
        return Ok("not compared, the server does not tell its time".to_owned());
    };
    let skew = now.duration_since(date).unsigned_abs();
    // The header has whole seconds.
    if skew <= CLOCK_SKEW_MAX {
        Ok("agrees with the server".to_owned())
    } else {
        Err(format!(
            "{} s away from the server's; set both by NTP",
            skew.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_found() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert!(clock(Some("Sun, 06 Nov 1994 08:49:37 GMT"), now).is_ok());
        assert!(clock(Some("Sun, 06 Nov 1994 08:49:40 GMT"), now).is_ok());
        assert!(
            clock(Some("Sun, 06 Nov 1994 08:59:37 GMT"), now)
                .unwrap_err()
                .contains("600 s")
        );
        assert!(clock(None, now).unwrap().contains("not compared"));
    }

    #[test]
    fn what_others_can_read_is_found_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin.key");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(private(&file, "600").unwrap_err().contains("chmod 600 "));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(private(&file, "600").is_ok());
    }
}
