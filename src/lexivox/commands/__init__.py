"""The verbs of the command line, one file for each group. Heavy modules are imported when a verb runs."""
