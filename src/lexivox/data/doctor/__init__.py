"""Examines recordings, labels and predictions: says what is wrong and what mends it, silent where all is well."""
