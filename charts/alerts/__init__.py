"""The page of alerts, docs/alerts.md."""
