"""Prediction files of any method against label files, scored alone."""
