"""From the stream to the sink: source, decode, validate, process, sink, dead letters, ack."""
