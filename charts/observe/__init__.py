"""The chart's dashboards and rules on this machine, beside `make run`: what `make observe` starts."""
