"""Depth from a single camera on a robot: the runtime. Imports neither torch nor `training`."""
