//! `gantry explain`: why a request is refused, or that it is not.

use std::{collections::BTreeMap, net::IpAddr};

use http::Method;

use crate::admin::explain::{ExplainRequest, ExplanationBody};
use crate::cli::client::{Client, Options};
use crate::cli::failure::Usage;
use crate::cli::output;
use crate::ids::RoleName;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The HTTP method.
    method: String,
    /// The path with the mount, and perhaps a query: `/shop/orders/7?page=2`.
    path: String,
    /// The host name that is asked.
    #[arg(long)]
    host: Option<String>,
    /// A header of the request, `NAME: VALUE`.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// As this account: its e-mail address or id.
    #[arg(long, group = "caller")]
    user: Option<String>,
    /// As somebody with this role. Repeat it for several.
    #[arg(long = "role", value_name = "ROLE", group = "caller")]
    roles: Vec<RoleName>,
    /// As whoever has the access token or API key on standard input.
    #[arg(long, group = "caller")]
    token_stdin: bool,
    /// From this address. Without it, nobody asks from where an API key may be used.
    #[arg(long, requires = "token_stdin")]
    address: Option<IpAddr>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let mut headers = BTreeMap::new();
    for header in &args.headers {
        let Some((name, value)) = header.split_once(':') else {
            return Err(Usage(format!("`{header}` is no header; write `NAME: VALUE`")).into());
        };
        headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    let token = match args.token_stdin {
        true => {
            let token = output::read_secret("Token")?;
            Some(std::str::from_utf8(&token)?.trim().to_owned())
        }
        false => None,
    };
    let request = ExplainRequest {
        method: args.method.to_ascii_uppercase(),
        path: args.path,
        host: args.host,
        headers,
        token,
        address: args.address,
        user: args.user,
        roles: (!args.roles.is_empty()).then_some(args.roles),
    };
    let found: ExplanationBody = client
        .send_json(Method::POST, &["explain"], &request)
        .await?;
    if args.json {
        return output::print_json(&found);
    }
    output::print(&shown(&found));
    Ok(())
}

fn shown(found: &ExplanationBody) -> String {
    let outcome = if found.is_allowed {
        "allowed"
    } else {
        "refused"
    };
    let mut text = format!("{outcome}: {}\n", output::plain(&found.because));
    if let Some(code) = &found.code {
        text.push_str(&format!("the caller is told: {code}\n"));
    }
    if let Some(route) = &found.route {
        let methods = route.methods.join(", ");
        text.push_str(&format!(
            "route: {methods} {} of {} {}, auth {}\n",
            route.path, route.plugin, route.version, route.auth
        ));
    }
    match &found.caller {
        Some(caller) => {
            let roles = caller.roles.join(", ");
            text.push_str(&format!(
                "caller: {} {}, roles: {roles}\n",
                caller.kind, caller.id
            ));
        }
        None => text.push_str("caller: nobody\n"),
    }
    if !found.rules.is_empty() {
        let rows: Vec<Vec<String>> = found
            .rules
            .iter()
            .map(|rule| {
                let met = match (&rule.failure, rule.is_met) {
                    (Some(failure), _) => format!("no: {}", output::plain(failure)),
                    (None, true) => "yes".to_owned(),
                    (None, false) => "no".to_owned(),
                };
                vec![rule.kind.clone(), output::plain(&rule.needs), met]
            })
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["rule", "needs", "met"], &rows));
    }
    text
}
