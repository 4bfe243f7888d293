"""The log: one gate for all lines, and the catalogue of what they are called."""
