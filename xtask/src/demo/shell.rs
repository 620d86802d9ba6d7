//! The reader's shell: `demo.sh` with what the lines need, how they are printed, and running them to see that they do what is
//! said.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::json;

use super::api::Api;
use super::state::State;
use super::tries::{SUBJECTS, Subject};
use super::{MOUNT, accounts, date, restaurant};

/// What begins the output of a line.
const MARK: &str = "@@gantry-demo";

/// Writes what the lines need into `demo.sh` of the data folder, for its owner only: there are passwords and a key in it.
pub(super) fn write(api: &Api, state: &State, url: &str, data: &Path) -> anyhow::Result<PathBuf> {
    let id = state
        .text(restaurant::ID)
        .context("the restaurant has an id")?;
    let key = accounts::staff_key(state).context("the staff has a key")?;
    let (day, time) = free_slot(api, &id)?;
    let booking = json!({
        "restaurant_id": id, "date": day, "time": time, "party_size": 2,
        "guest": { "name": "Bob Martin", "email": "bob@example.com", "phone": "+33 6 12 34 56 78" },
    });
    let login = |email: &str| {
        let password = state.text(&accounts::password_of(email));
        json!({ "email": email, "password": password.unwrap_or_default() })
    };
    let [_, (staff, ..), (guest, ..)] = accounts::ACCOUNTS;
    let newcomer =
        json!({ "email": "newcomer@example.com", "password": "correct horse battery staple" });
    let values = [
        ("G", "the server", url.to_owned()),
        ("D", "its data", data.display().to_string()),
        ("R", "the restaurant", id.clone()),
        ("DAY", "when a table for two is free", day),
        ("KEY", "the API key of the staff", key),
        (
            "STAFF",
            "how one of the staff logs in",
            login(staff).to_string(),
        ),
        (
            "GUEST",
            "how somebody without rights logs in",
            login(guest).to_string(),
        ),
        (
            "NEWCOMER",
            "somebody who opens an account",
            newcomer.to_string(),
        ),
        ("BOOKING", "a table for two", booking.to_string()),
        (
            "J",
            "what is sent",
            "content-type: application/json".to_owned(),
        ),
    ];
    let mut text =
        "# What the lines of `cargo xtask demo` need. Written by it at each start.\n".to_owned();
    for (name, about, value) in values {
        text.push_str(&format!("{name}={}  # {about}\n", quoted(&value)));
    }
    let bin = crate::guests::target_folder().join("debug");
    text.push_str(&format!(
        "export GANTRY_SERVER=\"$G\" GANTRY_DATA_DIR=\"$D\" PATH={}:\"$PATH\"\n",
        quoted(&bin.display().to_string())
    ));
    text.push_str("# A field of the JSON that comes in, and the code in a letter.\n");
    text.push_str(
        "field() { (cat; echo) | sed -n \"s/.*\\\"$1\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/p\"; }\n",
    );
    text.push_str("code() { tr -d '\\r' | grep -o 'gc_[A-Za-z0-9_-]*' | tail -n 1; }\n");
    let path = data.join("demo.sh");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

/// Prints the lines by subject.
pub(super) fn print(file: &Path, has_mail: bool) {
    let here = crate::root();
    let shown = file.strip_prefix(here).unwrap_or(file);
    println!("\nTo try it, in another terminal:\n");
    println!("  cd {}\n  . ./{}", here.display(), shown.display());
    for subject in subjects(has_mail) {
        println!("\n{}\n", subject.title);
        for one in subject.tries {
            println!("  # {}\n  {}", one.about, one.line);
        }
    }
    println!();
}

/// Runs every line in a shell of its subject, and fails if some do not print what they should.
pub(super) fn check(file: &Path, has_mail: bool) -> anyhow::Result<()> {
    let mut wrong = String::new();
    for subject in subjects(has_mail) {
        println!("\n{}\n", subject.title);
        for (one, output) in subject.tries.iter().zip(run(file, subject)?) {
            println!("  # {}\n  {}", one.about, one.line);
            let found = output.to_lowercase();
            let is_absent = |text: &&&str| !found.contains(&text.to_lowercase());
            let absent: Vec<_> = one.shows.iter().filter(is_absent).collect();
            if !absent.is_empty() {
                let output: String = output.chars().take(4000).collect();
                wrong.push_str(&format!(
                    "\n`{}` should show {absent:?} and printed:\n{output}\n",
                    one.line
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{wrong}");
    }
    Ok(())
}

/// What each line of the subject has printed.
fn run(file: &Path, subject: &Subject) -> anyhow::Result<Vec<String>> {
    let mut script = format!(". {} || exit 1\n", quoted(&file.display().to_string()));
    for one in subject.tries {
        script.push_str(&format!("echo; echo {MARK}\n{}\n", one.line));
    }
    // One stream for both, in the order in which it was written.
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {script} }} 2>&1")])
        .current_dir(crate::root())
        .stdin(Stdio::null())
        .output()
        .context("running a shell")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let outputs: Vec<String> = text.split(MARK).skip(1).map(str::to_owned).collect();
    if outputs.len() != subject.tries.len() {
        bail!("the lines of `{}` did not end: {text}", subject.title);
    }
    Ok(outputs)
}

fn subjects(has_mail: bool) -> impl Iterator<Item = &'static Subject> {
    SUBJECTS
        .iter()
        .filter(move |subject| has_mail || !subject.needs_mail)
}

/// As one word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A day and a time at which a table for two is free, tomorrow or as soon as there is one.
fn free_slot(api: &Api, id: &str) -> anyhow::Result<(String, String)> {
    let today = date::today();
    for day in (1..60).map(|after| date::text(today + after)) {
        let path = format!("{MOUNT}/restaurants/{id}/availability?date={day}&party_size=2");
        let answer = api.send("GET", &path, &[], b"")?.expect(200)?;
        let slots = answer["slots"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        // More than one, so that a line can be tried again.
        let free = slots.iter().max_by_key(|slot| slot["tables_free"].as_u64());
        let free = free.filter(|slot| slot["is_available"] == true);
        if let Some(time) = free.and_then(|slot| slot["time"].as_str()) {
            return Ok((day, time.to_owned()));
        }
    }
    bail!("no table for two is free in the next two months")
}
