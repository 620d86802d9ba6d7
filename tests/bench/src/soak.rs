//! A mixed load for a long time: whether the host holds more and answers later the longer it goes on. The load itself is the
//! harness's, and a short scene of the tests runs it, too.

use std::time::Duration;

use anyhow::ensure;
use gantry_harness::soak::Soak;

use crate::Figures;

/// One round, after which what the host holds is looked at.
const ROUND: Duration = Duration::from_secs(60);

pub(crate) fn measure(minutes: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let soak = Soak {
        rounds: minutes,
        round: ROUND,
        clients: 2,
        pause: Duration::from_millis(20),
        change_pause: Duration::from_millis(250),
    };
    let threads = tokio::runtime::Runtime::new()?;
    let report = threads.block_on(soak.run(|line| println!("{line}")))?;
    println!("{report}");
    let faults = report.faults();
    figures.insert("soak.faults".to_owned(), faults.len() as f64);
    ensure!(faults.is_empty(), "the host did not hold");
    Ok(())
}
