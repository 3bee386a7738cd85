"""Any recording in, one format out: frames decoded once, at the resolution that is trained at."""
