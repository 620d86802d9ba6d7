//! Files: what the store promises, whether bytes lie in a folder or on a server; plugins that use it; hosts that die.

mod guest;
mod kill;
mod place;
mod promises;
mod quotas;
mod uploads;

/// The same tests on a folder and on an S3-compatible server.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod folder {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::services::blobs::place::Place::folder).await;
                }
            )*
        }

        mod s3 {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::services::blobs::place::Place::s3).await;
                }
            )*
        }
    };
}

use on_both;
