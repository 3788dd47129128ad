"""The command line: one file for each group of commands, each of which translates its arguments into one call."""
