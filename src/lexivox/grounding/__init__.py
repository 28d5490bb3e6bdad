"""Asking a map in words: phrases, what a score means, regions with boxes, and files of hits."""
