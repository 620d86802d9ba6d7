//! `gantry rbac …`: which roles may call which routes.

use clap::{Subcommand, ValueEnum};

use crate::admin::rbac::{Access, MatrixBody};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::ids::PluginName;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print which roles may call which routes, made of what is live.
    Matrix {
        /// Only the routes of this plugin.
        #[arg(long)]
        plugin: Option<PluginName>,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Markdown)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Markdown,
    Csv,
    Json,
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let Command::Matrix { plugin, format } = command;
    let client = Client::new(server)?;
    let query: Vec<(&str, &str)> = plugin
        .iter()
        .map(|name| ("plugin", name.as_str()))
        .collect();
    let matrix: MatrixBody = client.get_with(&["rbac", "matrix"], &query).await?;
    match format {
        Format::Json => return output::print_json(&matrix),
        Format::Markdown => output::print(&markdown(&matrix)),
        Format::Csv => output::print(&csv(&matrix)),
    }
    Ok(())
}

fn markdown(matrix: &MatrixBody) -> String {
    let cell = |text: &str| {
        output::plain(text)
            .replace('\\', "\\\\")
            .replace('|', "\\|")
    };
    let mut text = String::new();
    let mut push = |cells: Vec<String>| {
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    };
    let lines = lines(matrix);
    for (index, line) in lines.iter().enumerate() {
        push(line.iter().map(|text| cell(text)).collect());
        if index == 0 {
            push(vec!["---".to_owned(); line.len()]);
        }
    }
    text
}

/// As RFC 4180 has it. A cell that a spreadsheet would take for a formula is kept from being one.
fn csv(matrix: &MatrixBody) -> String {
    let cell = |text: &String| {
        let guard = if text.starts_with(['=', '+', '-', '@', '\t']) {
            "'"
        } else {
            ""
        };
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    };
    let mut text = String::new();
    for line in lines(matrix) {
        let cells: Vec<String> = line.iter().map(cell).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// The head, and a line for each route.
fn lines(matrix: &MatrixBody) -> Vec<Vec<String>> {
    let mut head: Vec<String> = ["plugin", "methods", "path", "auth", "needs", "anybody"]
        .map(str::to_owned)
        .to_vec();
    head.extend(matrix.roles.iter().cloned());
    let mut lines = vec![head];
    for route in &matrix.routes {
        let host = route.host.as_deref().unwrap_or_default();
        let mut line = vec![
            route.plugin.clone(),
            route.methods.join(" "),
            format!("{host}{}", route.path),
            route.auth.clone(),
            route.needs.join("; "),
            word(route.anybody).to_owned(),
        ];
        line.extend(route.access.iter().map(|access| word(*access).to_owned()));
        lines.push(line);
    }
    lines
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Allowed => "yes",
        Access::Conditional => "conditional",
        Access::Refused => "no",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::rbac::MatrixRouteBody;

    #[test]
    fn what_authors_write_does_not_leave_its_cell() {
        let matrix = MatrixBody {
            roles: vec!["cook".to_owned()],
            routes: vec![MatrixRouteBody {
                plugin: "shop".to_owned(),
                host: None,
                methods: vec!["GET".to_owned()],
                path: "/a|b\"".to_owned(),
                auth: "required".to_owned(),
                needs: vec!["=cmd|x".to_owned()],
                anybody: Access::Refused,
                access: vec![Access::Conditional],
            }],
        };
        let text = markdown(&matrix);
        assert_eq!(
            text.lines().last().unwrap(),
            "| shop | GET | /a\\|b\" | required | =cmd\\|x | no | conditional |"
        );
        let text = csv(&matrix);
        assert!(
            text.ends_with("\"/a|b\"\"\",\"required\",\"'=cmd|x\",\"no\",\"conditional\"\r\n"),
            "{text}"
        );
    }
}
