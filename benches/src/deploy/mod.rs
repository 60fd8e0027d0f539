//! How long it takes until the public hears another version, and what that costs it: our Docker host
//! behind our proxy, beside what people do by hand.
//!
//! All sides run the same static program, each in containers on the host's network, and are asked all
//! the while by the same clients: fresh and kept connections, 200 requests a second. A time ends when
//! the public hears the other version; the requests that failed are told in the end.
//!
//! | side | what it does |
//! |---|---|
//! | `ops` | `DockerHost`: lock, images pinned, gate, switch of `ops-proxy`'s pointer, public address, history, journal; the old container answers its last requests, and stops |
//! | `peer: docker-compose up` | `docker-compose up -d` with another tag: the old container stops, then the new one starts on its port |
//! | `peer: scale up, then down` | what docker-rollout does: the new container beside the old one, asked for its health each 100 ms until it is well, the address in nginx' configuration replaced, `nginx -s reload`, the old one stopped and removed |

mod by_hand;
mod engine;
mod lock;
mod ours;

use std::net::SocketAddr;
use std::time::Duration;

use ops_deploy::load::{Figures, Load};

use crate::rounds::{Benchmark, Side};
use crate::{Failure, Wish};
use by_hand::{Composed, Scaled};
pub use engine::need_programs;
use engine::{Heard, TAGS};
use ours::{Back, Ours};

/// Something that serves one of two versions.
trait Served {
    /// Where the public asks.
    fn address(&self) -> SocketAddr;
    /// Brings the version of this number into service, and ends when that is all done.
    fn bring(&mut self, version: usize) -> Result<(), Failure>;
}

/// What the requests of all rounds of a side have come to; it is told in the end.
#[derive(Debug)]
struct Toll {
    name: String,
    asked: u64,
    failed: u64,
}

impl Toll {
    fn take(&mut self, figures: &Figures) {
        self.asked += figures.asked;
        self.failed += figures.failed;
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        let Self { name, asked, failed } = self;
        #[expect(clippy::print_stderr, reason = "a count of zero is no measurement")]
        {
            eprintln!("{name}: {failed} of {asked} requests have failed");
        }
    }
}

/// Goes there, measured from the first version to the second one or back, and unmeasured back again.
fn side(group: &str, name: &str, mut served: impl Served + 'static, forward: bool) -> Side {
    let mut toll = Toll { name: format!("{group}/{name}"), asked: 0, failed: 0 };
    let (from, to) = if forward { (0, 1) } else { (1, 0) };
    Side::new(name, move || {
        served.bring(from)?;
        let load = Load::on(served.address()).fresh(1).kept(2).per_second(200).start()?;
        // Clients are there before anything happens.
        std::thread::sleep(Duration::from_millis(200));
        let heard = Heard::listen(served.address(), TAGS[to]);
        let brought = served.bring(to);
        let took = heard.after()?;
        std::thread::sleep(Duration::from_millis(200));
        let figures = load.stop();
        brought?;
        toll.take(&figures);
        Ok(took)
    })
}

/// Deployments and rollbacks.
///
/// # Errors
/// Of a program that is missing, and those of the engine.
pub fn benchmarks(wish: &Wish) -> Result<Vec<Benchmark>, Failure> {
    need_programs(wish)?;
    let rounds = if wish.quick { 3 } else { 10 };
    let mut benchmarks = Vec::new();
    for (number, (group, back)) in [
        ("deployment", None),
        ("rollback, warm", Some(Back::Warm)),
        ("rollback, stopped", Some(Back::Stopped)),
        ("rollback, cold", Some(Back::Cold)),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = |of: &str| -> Result<_, Failure> {
            let folder = wish.folder.join(format!("deploy-{number}-{of}"));
            std::fs::create_dir(&folder)?;
            Ok(folder)
        };
        let forward = back.is_none();
        let ours = Ours::new(&folder("ours")?, back.unwrap_or(Back::Stopped))?;
        let composed = Composed::new(&folder("composed")?)?;
        let scaled = Scaled::new(&folder("scaled")?)?;
        let sides = vec![
            side(group, "ops", ours, forward),
            side(group, "peer: docker-compose up", composed, forward),
            side(group, "peer: scale up, then down", scaled, forward),
        ];
        let group = format!("{group}, until the public hears it");
        benchmarks.push(Benchmark { group, items: 1, bytes: None, rounds, sides });
    }
    let folder = |of: &str| -> Result<_, Failure> {
        let folder = wish.folder.join(format!("deploy-lock-{of}"));
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    benchmarks.extend(lock::benchmarks(folder, rounds)?);
    Ok(benchmarks)
}
