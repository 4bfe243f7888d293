"""The schema, one numbered file a step.

Each is run once, in one transaction, and never edited after its release.
"""
