//! Answers that tell nothing by how long they took.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Does the work and gives what came of it at the next whole multiple of `beat`, counted from the beginning: whether an
/// account was there or not takes less than one.
pub(super) async fn evenly<T>(beat: Duration, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.await;
    if !beat.is_zero() {
        let beats = began.elapsed().as_nanos() / beat.as_nanos() + 1;
        let beats = u32::try_from(beats).unwrap_or(u32::MAX);
        sleep_until(began + beat.saturating_mul(beats)).await;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn short_and_less_short_work_end_at_the_same_moment() {
        let beat = Duration::from_millis(250);
        for (work_ms, wanted_ms) in [(0, 250), (1, 250), (249, 250), (251, 500), (700, 750)] {
            let began = Instant::now();
            evenly(beat, tokio::time::sleep(Duration::from_millis(work_ms))).await;
            let took_ms = began.elapsed().as_millis();
            assert!((wanted_ms..wanted_ms + 3).contains(&took_ms), "{took_ms}");
        }
    }
}
