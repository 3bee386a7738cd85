"""Models that are shipped: from data to a file with its int8 variant, what was measured of both, and a card."""
