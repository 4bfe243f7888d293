"""What there is to be measured: metrics, spans, and what they are called."""
