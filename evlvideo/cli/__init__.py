"""The command line: one file a group of commands, each of which translates its arguments into one call."""
