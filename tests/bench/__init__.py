"""`make bench`: how fast the pipeline is, beside what one would write or take instead.

The contestants are processes of their own, timed by one observer, in turns, on one preloaded stream.
"""
