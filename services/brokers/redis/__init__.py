"""Redis Streams: all that knows how the pipeline uses a server of that kind."""
