//! Each side for itself, with criterion's statistics and its comparison with the last run:
//! `cargo bench -p ops-benches`, and `-- journal` for those whose name has this in it.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ops_benches::rounds::Side;
use ops_benches::{ALL, Failure, scratch};

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let folder = scratch::open(None)?;
    for make in ALL {
        let benchmark = make(true, folder.path())?;
        let mut group = criterion.benchmark_group(&benchmark.group);
        group.throughput(
            benchmark
                .bytes
                .map_or_else(|| Throughput::Elements(benchmark.items.into()), Throughput::Bytes),
        );
        for side in benchmark.sides {
            measure(&mut group, side);
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, mut side: Side) {
    group.bench_function(&side.name, |bencher| {
        bencher.iter_custom(|times| {
            (0..times).map(|_| (side.run)().expect("the work succeeds")).sum::<Duration>()
        });
    });
}
