//! Trying again: backoff with jitter and a budget.
