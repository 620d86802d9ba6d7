//! Figures of answers that are kept: a hit over HTTP, to a bare native handler that makes the same answer.

use std::time::Duration;

use crate::load::{Server, wrk_run};
use crate::{Figures, median};

const PATH: &str = "/cached/calls?count=1";

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let (native, gantry) = (Server::start("native")?, Server::start("gantry")?);
    let (mut ratios, mut per_s, mut errors) = (Vec::new(), Vec::new(), 0.0);
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        let mut run = |server: &Server| {
            let run = wrk_run(&format!("http://{}{PATH}", server.address), round, None)?;
            errors += run.errors;
            anyhow::Ok(run.per_s)
        };
        let (bare, hit) = (run(&native)?, run(&gantry)?);
        if index > 0 {
            ratios.push(hit / bare);
            per_s.push(hit);
        }
    }
    figures.insert("http.cached.per_s".to_owned(), median(per_s));
    figures.insert("http.cached.ratio_to_native".to_owned(), median(ratios));
    *figures.entry("errors".to_owned()).or_default() += errors;
    Ok(())
}
