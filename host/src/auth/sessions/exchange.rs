//! Exchanges of refresh tokens, written together: a commit waits for the disk, so those that arrive meanwhile share the
//! next one.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::auth::Error;
use crate::auth::sessions::store::{Exchange, Exchanged, Store};

/// Most exchanges of one transaction, so that other writers get their turn.
const TOGETHER_MAX: usize = 256;
const RETRY_AFTER_S: u64 = 1;

pub(super) struct Exchanges {
    waiting: mpsc::Sender<Waiting>,
}

struct Waiting {
    exchange: Exchange,
    answer: oneshot::Sender<Result<Option<Exchanged>, Error>>,
}

impl Exchanges {
    /// Needs a tokio runtime, on which it writes until it is dropped.
    pub(super) fn new(store: Store, queue_max: usize) -> Self {
        let (waiting, queue) = mpsc::channel(queue_max);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its sender; whoever waits is told"
        )]
        tokio::spawn(write(store, queue));
        Self { waiting }
    }

    /// Writes one exchange. Nothing if the token is not the one that counts. `Busy` if too many wait.
    pub(super) async fn exchange(&self, exchange: Exchange) -> Result<Option<Exchanged>, Error> {
        let (answer, answered) = oneshot::channel();
        let busy = Error::Busy {
            retry_after_s: RETRY_AFTER_S,
        };
        let waiting = Waiting { exchange, answer };
        if self.waiting.try_send(waiting).is_err() {
            return Err(busy);
        }
        answered.await.unwrap_or(Err(busy))
    }
}

async fn write(store: Store, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(TOGETHER_MAX);
    while queue.recv_many(&mut batch, TOGETHER_MAX).await > 0 {
        match write_together(&store, &batch).await {
            Ok(done) => {
                for (waiting, exchanged) in batch.drain(..).zip(done) {
                    // Whoever has gone finds the successor with the same token.
                    let _ = waiting.answer.send(Ok(exchanged));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for waiting in batch.drain(..) {
                    let _ = waiting
                        .answer
                        .send(Err(Error::Together(Arc::clone(&error))));
                }
            }
        }
    }
}

async fn write_together(store: &Store, batch: &[Waiting]) -> Result<Vec<Option<Exchanged>>, Error> {
    let mut transaction = store.begin().await?;
    let mut done = Vec::with_capacity(batch.len());
    for waiting in batch {
        done.push(store.exchange(&mut transaction, &waiting.exchange).await?);
    }
    transaction.commit().await?;
    Ok(done)
}
