//! Random histories, cut anywhere: every prefix of a journal leads a recovery to a legal end.

use jiff::Timestamp;
use proptest::prelude::*;

use super::line;
use super::record::{Began, End, Entry, Record};
use super::state::{Action, Phase, State};
use crate::Class;
use crate::effect::{Effect, EffectKind};
use crate::environment::Environment;
use crate::operation_id::OperationId;
use crate::outcome::AbortReason;
use crate::plan::{Plan, PlannedStep};
use crate::resource::ResourceId;

fn step(kind: EffectKind, at: usize) -> PlannedStep {
    PlannedStep {
        resource: ResourceId::new("test", "one"),
        family: "test".into(),
        name: format!("step_{at}"),
        effect: Effect { kind, what: format!("effect {at}") },
        step: at.into(),
    }
}

fn began(changes: &[EffectKind], finishers: usize) -> Record {
    let mut plan = Plan::new("history");
    plan.changes = changes.iter().enumerate().map(|(at, kind)| step(*kind, at)).collect();
    plan.finishers = (0..finishers).map(|at| step(EffectKind::Changes, at)).collect();
    let id = OperationId::generate();
    Record::Began(Box::new(Began::new(id, "test".into(), Environment::Staging, None, plan)))
}

/// A history as the engine would write it, with the luck of each call given.
fn history(first: Record, luck: &[bool]) -> Vec<Record> {
    let mut state = State::first(&first).unwrap();
    let mut records = vec![first];
    let mut luck = luck.iter().copied().chain(std::iter::repeat(true));
    let mut draw = || luck.next().unwrap_or(true);
    loop {
        let new = match state.next_action() {
            Action::Run(step) => {
                let noted = Record::Noted {
                    step,
                    resource: ResourceId::new("test", "one"),
                    key: format!("key {step}"),
                    value: step.into(),
                };
                let end = if draw() {
                    Record::Done { step }
                } else {
                    Record::Aborting {
                        why: AbortReason::StepFailed,
                        cause: vec![],
                        class: Class::default(),
                    }
                };
                vec![Record::Intent { step }, noted, end]
            }
            Action::Abort => {
                vec![Record::Aborting {
                    why: AbortReason::StepFailed,
                    cause: vec!["abort".into()],
                    class: Class::default(),
                }]
            }
            Action::Commit => vec![Record::Committed],
            Action::Undo(step) => {
                let failed = Record::UndoFailed { step, error: vec![], remedy: "look".to_owned() };
                vec![
                    Record::Undoing { step },
                    if draw() { Record::Undone { step } } else { failed },
                ]
            }
            Action::Finish(step) => {
                let failed = Record::FinishFailed { step, error: vec![] };
                let end = if draw() { Record::Finished { step } } else { failed };
                vec![Record::Finishing { step }, end]
            }
            Action::Close => vec![Record::Closed { end: end_of(&state) }],
            Action::NeedsPerson(_) | Action::LeaveFinishers | Action::Nothing => return records,
        };
        for record in new {
            state.advance(&record).unwrap();
            records.push(record);
        }
    }
}

fn end_of(state: &State) -> End {
    if *state.phase() == Phase::Committed { End::Completed } else { End::RolledBack }
}

fn write(records: &[Record]) -> Vec<u8> {
    let entry = |(seq, record): (usize, &Record)| Entry {
        seq: seq as u64,
        at: Timestamp::UNIX_EPOCH,
        record: record.clone(),
    };
    records.iter().enumerate().flat_map(|r| line::encode(&entry(r)).unwrap()).collect()
}

fn kind() -> impl Strategy<Value = EffectKind> {
    prop_oneof![
        1 => Just(EffectKind::Reads),
        4 => Just(EffectKind::Changes),
        1 => Just(EffectKind::Destroys),
        1 => Just(EffectKind::Retained),
    ]
}

proptest! {
    #[test]
    fn any_prefix_recovers_to_a_legal_end(
        changes in prop::collection::vec(kind(), 0..6),
        finishers in 0usize..3,
        luck in prop::collection::vec(prop::bool::weighted(0.8), 0..24),
        cut in any::<prop::sample::Index>(),
    ) {
        let records = history(began(&changes, finishers), &luck);
        let bytes = write(&records);
        let first_line = write(&records[..1]).len();
        // `began` is whole before the file has its name.
        let cut = first_line + cut.index(bytes.len() - first_line + 1);
        let contents = line::read(&bytes[..cut]).unwrap();
        prop_assert!(records.len() >= contents.entries.len());
        let read: Vec<_> = contents.entries.into_iter().map(|entry| entry.record).collect();
        prop_assert_eq!(&read[..], &records[..read.len()]);

        let committed = read.contains(&Record::Committed);
        let mut state = State::first(&read[0]).unwrap();
        for record in &read[1..] {
            state.advance(record).unwrap();
        }
        // As `recover` does it, with a world in which everything works.
        state.reconsider();
        if *state.phase() == Phase::Running {
            state.advance(&Record::Aborting { why: AbortReason::StepFailed, cause: vec!["died".into()], class: Class::default() }).unwrap();
        }
        for _ in 0..100 {
            let record = match state.next_action() {
                Action::Undo(step) => {
                    state.advance(&Record::Undoing { step }).unwrap();
                    Record::Undone { step }
                }
                Action::Finish(step) => {
                    state.advance(&Record::Finishing { step }).unwrap();
                    Record::Finished { step }
                }
                Action::Close => Record::Closed { end: end_of(&state) },
                Action::Nothing => break,
                other => return Err(TestCaseError::fail(format!("a recovery meets {other:?}"))),
            };
            state.advance(&record).unwrap();
        }
        let expected = if committed { End::Completed } else { End::RolledBack };
        prop_assert_eq!(state.phase(), &Phase::Closed(expected));
    }

    #[test]
    fn any_flipped_byte_before_the_last_line_is_refused(
        luck in prop::collection::vec(prop::bool::weighted(0.8), 0..12),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let records = history(began(&[EffectKind::Changes; 4], 1), &luck);
        let mut bytes = write(&records);
        let last_line = write(&records[..records.len() - 1]).len();
        let at = at.index(last_line);
        bytes[at] ^= 1 << bit;
        prop_assert!(line::read(&bytes).is_err(), "byte {} bit {}", at, bit);
    }

    #[test]
    fn no_record_out_of_place_is_accepted_twice(
        changes in prop::collection::vec(kind(), 1..5),
        luck in prop::collection::vec(any::<bool>(), 0..12),
        pick in any::<prop::sample::Index>(),
    ) {
        // Repeating `done`, `undone`, `committed` and `closed` at once is a damaged history.
        let records = history(began(&changes, 1), &luck);
        let at = pick.index(records.len());
        let mut state = State::first(&records[0]).unwrap();
        for record in &records[1..=at.max(1).min(records.len() - 1)] {
            state.advance(record).unwrap();
        }
        let last = &records[at.max(1).min(records.len() - 1)];
        let repeatable = matches!(
            last,
            Record::Noted { .. } | Record::Undoing { .. } | Record::Finishing { .. }
        );
        prop_assert_eq!(state.advance(last).is_ok(), repeatable);
    }
}
