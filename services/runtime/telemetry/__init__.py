"""Metrics and spans, and how they are sent."""
