"""What every way to run a phase has to do, as a table: a property, an executor, and a phase that shows it."""
