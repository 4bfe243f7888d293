"""From a record's bytes to the texts of its events. Pure."""
