//! Each side for itself, with criterion's statistics and its comparison with the last run:
//! `cargo bench -p ops-benches`, and `-- journal` for those whose name has this in it.

use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ops_benches::rounds::Side;
use ops_benches::{ALL, Failure, Wish, own_program, scratch};

fn main() -> Result<ExitCode, Failure> {
    if let Some(code) = own_program::run() {
        return Ok(code);
    }
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let folder = scratch::open(None)?;
    for family in ALL {
        for benchmark in (family.make)(&Wish::new(true, folder.path()))? {
            let mut group = criterion.benchmark_group(&benchmark.group);
            group.throughput(
                benchmark.bytes.map_or_else(
                    || Throughput::Elements(benchmark.items.into()),
                    Throughput::Bytes,
                ),
            );
            for side in benchmark.sides {
                measure(&mut group, side);
            }
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(ExitCode::SUCCESS)
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, mut side: Side) {
    group.bench_function(&side.name, |bencher| {
        bencher.iter_custom(|times| {
            (0..times).map(|_| (side.run)().expect("the work succeeds").wall).sum::<Duration>()
        });
    });
}
