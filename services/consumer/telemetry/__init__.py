"""What the consumer says of its batches: figures, spans, lines of the log."""
