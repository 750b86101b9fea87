"""The commands: each module parses, composes, runs and reports."""
