//! Rounds: each side once a round, so that whatever else the machine does falls upon all of them.

use std::time::Duration;

use ops_benches::Failure;
use ops_benches::rounds::{Benchmark, Cost};

use crate::measurement::Measurement;

/// Runs the sides in turn, once unmeasured and then `rounds` times.
///
/// Every other round goes backwards, so that no side always follows the same one.
pub(crate) fn measure(benchmark: Benchmark) -> Result<Vec<Measurement>, Failure> {
    let Benchmark { group, items, bytes, rounds, mut sides } = benchmark;
    let mut costs = vec![Vec::with_capacity(rounds); sides.len()];
    for round in 0..=rounds {
        let mut order: Vec<_> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let cost = (sides[at].run)()?;
            if round > 0 {
                costs[at].push(cost);
            }
        }
    }
    let names: Vec<_> = sides.iter().map(|side| side.name.as_str()).collect();
    let of_each = |figure: &dyn Fn(&Cost) -> Option<Duration>| -> Option<Vec<Vec<f64>>> {
        let one = |cost| Some(figure(cost)?.as_secs_f64() * 1e9 / f64::from(items));
        costs.iter().map(|costs| costs.iter().map(one).collect()).collect()
    };
    let sizes_of = |what: &str| {
        let one = |cost: &Cost| {
            let size = cost.sizes.iter().find(|(name, _)| *name == what);
            size.map(|(_, bytes)| *bytes as f64)
        };
        let all = names.iter().zip(&costs);
        // Of some sides nobody knows it, and they are left out.
        all.filter_map(|(name, costs)| Some((*name, costs.iter().map(one).collect::<Option<_>>()?)))
            .collect::<Vec<(&str, Vec<f64>)>>()
    };
    let mut results = Vec::new();
    // The work of the processors is the better measure on a machine that does other things too.
    if let Some(times) = of_each(&|cost| cost.cpu) {
        results.extend(compared(&format!("{group}, CPU"), &names, &times, None));
    }
    if let Some(times) = of_each(&|cost| Some(cost.wall)) {
        results.extend(compared(&group, &names, &times, bytes));
    }
    // Those of ours: what only a peer tells has nothing to be compared with.
    let ours = costs.first().and_then(|costs| costs.first());
    for (what, _) in ours.map_or(&[][..], |cost| &cost.sizes) {
        let (names, sizes): (Vec<_>, Vec<_>) = sizes_of(what).into_iter().unzip();
        let found = compared(&format!("{group}, {what}"), &names, &sizes, None);
        results.extend(found.into_iter().map(|mut one| {
            if !one.is_ratio() {
                Measurement::BYTES.clone_into(&mut one.unit);
            }
            one
        }));
    }
    Ok(results)
}

fn compared(
    group: &str,
    names: &[&str],
    times: &[Vec<f64>],
    bytes: Option<u64>,
) -> Vec<Measurement> {
    let named = names.iter().zip(times);
    let mut results: Vec<_> =
        named.clone().map(|(name, times)| sample(format!("{group}/{name}"), "ns", times)).collect();
    for (one, bytes) in results.iter_mut().zip(bytes.into_iter().cycle()) {
        one.extra = format!("{}; {:.0} MB/s", one.extra, bytes as f64 / one.value * 1e3);
    }
    for (name, peer) in named.skip(1) {
        let each: Vec<_> = times[0].iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
        let mut ratio = sample(format!("{group}/ops : {name}"), Measurement::RATIO, &each);
        // The median of the rounds' own ratios stands beside it: where the two are far apart, the
        // machine was too busy to be believed.
        ratio.extra = format!("{}; median of their ratios {:.3}", ratio.extra, ratio.value);
        ratio.value = median(&times[0]) / median(peer);
        results.push(ratio);
    }
    results
}

fn sample(name: String, unit: &str, values: &[f64]) -> Measurement {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, 0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let range = if unit == Measurement::RATIO {
        format!("{low:.3} .. {high:.3}")
    } else {
        format!("{low:.0} .. {high:.0}")
    };
    let extra = format!("median and range of {} rounds", values.len());
    Measurement { name, unit: unit.to_owned(), value: median(values), range, extra }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use ops_benches::rounds::Side;

    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in
            [(&[3.0][..], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0)]
        {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn processors_are_told_apart_where_they_are_known() {
        let side = |name: &str, cpu| {
            let cpu = Some(Duration::from_millis(cpu));
            Side::new(name, move || {
                Ok(Cost { wall: Duration::from_secs(1), cpu, sizes: vec![("space", 7)] })
            })
        };
        let sides = vec![side("ops", 30), side("peer: x", 20)];
        let benchmark =
            Benchmark { group: "g".to_owned(), items: 1, bytes: None, rounds: 2, sides };
        let found = measure(benchmark).unwrap();
        let found: Vec<_> =
            found.iter().map(|one| format!("{} {:.1}", one.name, one.value)).collect();
        assert_eq!(found[2], "g, CPU/ops : peer: x 1.5");
        assert_eq!(found[5], "g/ops : peer: x 1.0");
        assert_eq!(
            found[6..],
            ["g, space/ops 7.0", "g, space/peer: x 7.0", "g, space/ops : peer: x 1.0"]
        );
    }

    #[test]
    fn sides_alternate_and_the_first_run_does_not_count() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let side = |name: &'static str, first: u64, rest: u64| {
            let order = Rc::clone(&order);
            let mut runs = 0;
            Side::new(name, move || {
                order.borrow_mut().push(name);
                runs += 1;
                Ok(Duration::from_micros(if runs == 1 { first } else { rest }))
            })
        };
        let sides = vec![side("ops", 900, 30), side("peer: x", 1, 20)];
        let group = "g".to_owned();
        let benchmark = Benchmark { group, items: 10, bytes: Some(30), rounds: 3, sides };
        let found = measure(benchmark).unwrap();
        let names: Vec<_> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["g/ops", "g/peer: x", "g/ops : peer: x"]);
        let values: Vec<_> = found.iter().map(|one| format!("{:.2}", one.value)).collect();
        assert_eq!(values, ["3000.00", "2000.00", "1.50"]);
        assert!(found[0].extra.ends_with("; 10 MB/s"), "{}", found[0].extra);
        let order = order.borrow();
        assert_eq!(order.len(), 8);
        assert_eq!(order[..4], ["ops", "peer: x", "peer: x", "ops"]);
    }
}
