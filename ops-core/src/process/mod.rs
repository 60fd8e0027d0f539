//! Children: argv, environment allow-list, deadline, process group, drained and redacted output.
