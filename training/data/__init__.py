"""Frames in: readers of data sets, datasets, augmentation."""
