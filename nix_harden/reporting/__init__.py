"""One page of what programs load, and why."""
