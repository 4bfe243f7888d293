"""How a consumer gets its entries: new ones, those it had before, and those of consumers that died."""
