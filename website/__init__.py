"""The site: its settings, the pages that are made for it, and the recording of a terminal."""
