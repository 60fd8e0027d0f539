//! Traffic, for as long as it is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::asking::{get, http};

/// Clients that ask again and again. Dropping it ends them.
pub struct Traffic {
    end: CancellationToken,
    asked: Arc<AtomicU64>,
}

impl Traffic {
    pub fn to(url: &str, clients: usize) -> Self {
        let (end, asked) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        for _ in 0..clients {
            let (end, asked, url) = (end.clone(), Arc::clone(&asked), url.to_owned());
            tokio::spawn(async move {
                let client = http();
                while !end.is_cancelled() {
                    let _ = get(&client, &url).await;
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self { end, asked }
    }

    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
