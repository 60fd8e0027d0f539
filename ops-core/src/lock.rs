//! One operation at a time on one resource: kernel locks, freed by death.
