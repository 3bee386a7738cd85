"""Training of depth networks from video: networks, losses, data, evaluation, export. `python -m training --help`."""
