"""What audits have proven, and what may be dropped for it."""
