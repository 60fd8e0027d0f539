//! What a journal means: a state machine without I/O, which running and recovering share.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::record::{Began, End, Record};
use crate::Class;
use crate::effect::EffectKind;
use crate::outcome::AbortReason;
use crate::plan::PlannedStep;
use crate::report::StepStatus;
use crate::resource::ResourceId;

/// Where an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Changes go forward.
    Running,
    /// Changes are undone.
    Aborting,
    /// The commit record is written; finishers go forward.
    Committed,
    /// It has ended.
    Closed(End),
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    InDoubt,
    Done,
    Undoing,
    Undone,
    UndoFailed,
    FinishFailed,
}

/// What a journal means.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    began: Arc<Began>,
    phase: Phase,
    stages: Vec<Stage>,
    notes: BTreeMap<ResourceId, BTreeMap<String, Value>>,
    why: AbortReason,
    class: Class,
    cause: Vec<String>,
    what_to_do: Option<String>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run this change.
    Run(usize),
    /// A change is in doubt although nothing runs it: go back.
    Abort,
    /// Write the commit record.
    Commit,
    /// Undo this change.
    Undo(usize),
    /// Run this finisher.
    Finish(usize),
    /// Everything is undone or finished: write the last record.
    Close,
    /// This change could not be undone: a person must act.
    NeedsPerson(usize),
    /// Some finishers failed: leave them to a recovery.
    LeaveFinishers,
    /// Nothing: it has ended.
    Nothing,
}

/// A record that cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IllegalRecord(String);

impl State {
    /// The state after the first record.
    ///
    /// # Errors
    /// If it is not [`Record::Began`].
    pub fn first(record: &Record) -> Result<Self, IllegalRecord> {
        let Record::Began(began) = record else {
            return Err(IllegalRecord("the first record is not `began`".into()));
        };
        Ok(Self {
            stages: vec![Stage::Waiting; began.plan.changes.len() + began.plan.finishers.len()],
            began: Arc::new((**began).clone()),
            phase: Phase::Running,
            notes: BTreeMap::new(),
            why: AbortReason::default(),
            class: Class::default(),
            cause: Vec::new(),
            what_to_do: None,
        })
    }

    /// Moves to the state after a record, or leaves the state as it is.
    ///
    /// # Errors
    /// If the record cannot follow.
    pub fn advance(&mut self, record: &Record) -> Result<(), IllegalRecord> {
        use Stage as S;
        let illegal = |why: &str| Err(IllegalRecord(format!("{why}: {record:?}")));
        match record {
            Record::Began(_) => return illegal("the operation has begun already"),
            Record::Intent { step } => {
                if self.next_action() != Action::Run(*step) {
                    return illegal("this change is not the next one");
                }
                self.stages[*step] = S::InDoubt;
            }
            Record::Noted { step, resource, key, value } => {
                let active = self.stages.get(*step).copied();
                if !matches!(active, Some(S::InDoubt | S::Undoing)) {
                    return illegal("a step that is not active notes nothing");
                }
                let notes = self.notes.entry(resource.clone()).or_default();
                notes.insert(key.clone(), value.clone());
            }
            Record::Done { step } => {
                if self.phase != Phase::Running || self.stages.get(*step) != Some(&S::InDoubt) {
                    return illegal("this change was not running");
                }
                self.stages[*step] = S::Done;
            }
            Record::Aborting { why, cause, class } => {
                if self.phase != Phase::Running {
                    return illegal("only what runs can go back");
                }
                self.phase = Phase::Aborting;
                self.why = *why;
                self.class = *class;
                self.cause.clone_from(cause);
            }
            Record::Undoing { step } => {
                let next = self.next_action();
                if next != Action::Undo(*step) && next != Action::NeedsPerson(*step) {
                    return illegal("this change is not the next to undo");
                }
                self.stages[*step] = S::Undoing;
            }
            Record::Undone { step } => {
                if self.stages.get(*step) != Some(&S::Undoing) {
                    return illegal("this change was not being undone");
                }
                self.stages[*step] = S::Undone;
                self.what_to_do = None;
            }
            Record::UndoFailed { step, remedy, .. } => {
                if self.stages.get(*step) != Some(&S::Undoing) {
                    return illegal("this change was not being undone");
                }
                self.stages[*step] = S::UndoFailed;
                self.what_to_do = Some(remedy.clone());
            }
            Record::Committed => {
                if self.next_action() != Action::Commit {
                    return illegal("not every change is done");
                }
                self.phase = Phase::Committed;
            }
            Record::Finishing { step } => {
                let stage = self.stages.get(*step).copied();
                let open = matches!(stage, Some(S::Waiting | S::InDoubt | S::FinishFailed));
                if self.phase != Phase::Committed || *step < self.changes() || !open {
                    return illegal("this finisher is not open");
                }
                self.stages[*step] = S::InDoubt;
            }
            Record::Finished { step } => {
                if self.phase != Phase::Committed || self.stages.get(*step) != Some(&S::InDoubt) {
                    return illegal("this finisher was not running");
                }
                self.stages[*step] = S::Done;
            }
            Record::FinishFailed { step, .. } => {
                if self.phase != Phase::Committed || self.stages.get(*step) != Some(&S::InDoubt) {
                    return illegal("this finisher was not running");
                }
                self.stages[*step] = S::FinishFailed;
            }
            Record::Closed { end } => {
                let fits = match end {
                    End::Completed => self.phase == Phase::Committed,
                    End::RolledBack => self.phase == Phase::Aborting,
                    End::Resolved { .. } => !matches!(self.phase, Phase::Closed(_)),
                };
                let by_hand = matches!(end, End::Resolved { .. });
                if !fits || !(by_hand || self.next_action() == Action::Close) {
                    return illegal("the operation cannot be closed so");
                }
                self.phase = Phase::Closed(end.clone());
            }
        }
        Ok(())
    }

    /// What is to be done next.
    pub fn next_action(&self) -> Action {
        let (changes, finishers) = self.stages.split_at(self.changes());
        match &self.phase {
            Phase::Running => match changes.iter().position(|s| *s != Stage::Done) {
                Some(step) if changes[step] == Stage::Waiting => Action::Run(step),
                Some(_) => Action::Abort,
                None => Action::Commit,
            },
            Phase::Aborting => match (0..changes.len()).rev().find(|i| self.is_to_undo(*i)) {
                Some(step) if changes[step] == Stage::UndoFailed => Action::NeedsPerson(step),
                Some(step) => Action::Undo(step),
                None => Action::Close,
            },
            Phase::Committed => {
                let open = |s: &Stage| matches!(s, Stage::Waiting | Stage::InDoubt);
                match finishers.iter().position(open) {
                    Some(at) => Action::Finish(changes.len() + at),
                    None if finishers.iter().all(|s| *s == Stage::Done) => Action::Close,
                    None => Action::LeaveFinishers,
                }
            }
            Phase::Closed(_) => Action::Nothing,
        }
    }

    /// Whether going back has this change still before it. What only reads leaves nothing to undo,
    /// and what is retained and done stays.
    fn is_to_undo(&self, step: usize) -> bool {
        match self.stages[step] {
            Stage::Waiting | Stage::Undone | Stage::FinishFailed => false,
            Stage::Undoing | Stage::UndoFailed => true,
            stage @ (Stage::InDoubt | Stage::Done) => match self.step(step).effect.kind {
                EffectKind::Reads => false,
                EffectKind::Retained => stage == Stage::InDoubt,
                EffectKind::Changes | EffectKind::Destroys => true,
            },
        }
    }

    /// Gives what failed before another try: what a recovery does first.
    pub fn reconsider(&mut self) {
        for stage in &mut self.stages {
            *stage = match *stage {
                Stage::UndoFailed => Stage::Undoing,
                Stage::FinishFailed => Stage::InDoubt,
                other => other,
            };
        }
    }

    fn changes(&self) -> usize {
        self.began.plan.changes.len()
    }

    /// The first record.
    pub fn began(&self) -> &Arc<Began> {
        &self.began
    }

    /// Where the operation is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// A step of the plan, counted over changes and finishers.
    pub fn step(&self, step: usize) -> &PlannedStep {
        let plan = &self.began.plan;
        plan.changes.get(step).unwrap_or_else(|| &plan.finishers[step - plan.changes.len()])
    }

    /// What made it go back, if it does.
    pub fn why(&self) -> AbortReason {
        self.why
    }

    /// Whether the same operation may succeed later, if it goes back.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Why it went back, outermost message first; empty if it did not.
    pub fn cause(&self) -> &[String] {
        &self.cause
    }

    /// What a person is to do, if an undo failed.
    pub fn what_to_do(&self) -> Option<&str> {
        self.what_to_do.as_deref()
    }

    /// What the steps noted, by resource and key.
    pub fn notes(&self) -> &BTreeMap<ResourceId, BTreeMap<String, Value>> {
        &self.notes
    }

    /// The steps that are not done yet.
    pub fn open_finishers(&self) -> Vec<String> {
        let finishers = self.changes()..self.stages.len();
        let open = finishers.filter(|i| self.stages[*i] != Stage::Done);
        open.map(|i| self.step(i).effect.what.clone()).collect()
    }

    /// What became of a step.
    pub fn status(&self, step: usize) -> StepStatus {
        match self.stages[step] {
            Stage::Waiting => StepStatus::NotRun,
            Stage::InDoubt if self.step(step).effect.kind == EffectKind::Reads => {
                StepStatus::Failed
            }
            Stage::InDoubt | Stage::Undoing => StepStatus::InDoubt,
            Stage::Done => StepStatus::Done,
            Stage::Undone => StepStatus::Undone,
            Stage::UndoFailed => StepStatus::UndoFailed,
            Stage::FinishFailed => StepStatus::Failed,
        }
    }
}
