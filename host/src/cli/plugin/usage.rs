//! `gantry plugin usage`: what a plugin has used, route by route.

use crate::admin::usage::{HostCallsBody, TotalsBody, UsageBody};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::cli::plugin::build::size;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let usage: UsageBody = client.get(&["plugins", &args.name, "usage"]).await?;
    if args.json {
        return output::print_json(&usage);
    }
    let mut rows: Vec<Vec<String>> = usage
        .routes
        .iter()
        .map(|route| row(&route.route, &route.totals))
        .collect();
    rows.push(row("all", &usage.total));
    let head = ["route", "calls", "cpu", "memory", "rows", "out", "in"];
    output::print(&output::table(&head, &rows));
    let calls = &usage.total.host_calls;
    if !calls.is_empty() {
        let rows: Vec<Vec<String>> = calls.iter().map(service_row).collect();
        output::print(&output::table(&["service", "calls", "time"], &rows));
    }
    output::next(&format!("gantry plugin inspect {}", args.name));
    Ok(())
}

fn row(route: &str, totals: &TotalsBody) -> Vec<String> {
    vec![
        route.to_owned(),
        totals.calls.to_string(),
        time(totals.cpu_us),
        bytes(totals.memory_peak_bytes),
        format!("{}/{}", totals.rows_read, totals.rows_written),
        bytes(totals.egress_bytes_sent),
        bytes(totals.egress_bytes_received),
    ]
}

fn service_row(calls: &HostCallsBody) -> Vec<String> {
    vec![
        calls.service.clone(),
        calls.calls.to_string(),
        time(calls.time_us),
    ]
}

/// The line of a plugin in `inspect`.
pub(super) fn lines(usage: &UsageBody) -> Vec<String> {
    let total = &usage.total;
    let mut lines = vec![format!(
        "{} calls since {}, cpu {}, at most {} of memory",
        total.calls,
        usage.since,
        time(total.cpu_us),
        bytes(total.memory_peak_bytes)
    )];
    let services = total.host_calls.iter();
    let services: Vec<String> = services
        .map(|calls| {
            format!(
                "{} {} in {}",
                calls.service,
                calls.calls,
                time(calls.time_us)
            )
        })
        .collect();
    if !services.is_empty() {
        lines.push(format!("calls of services: {}", services.join(", ")));
    }
    lines
}

fn bytes(bytes: u64) -> String {
    size(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000_000 => format!("{} ms", us / 1000),
        _ => format!("{} s", us / 1_000_000),
    }
}
