"""Runs all checks that need a GPU, as a list of steps with a time limit each, and writes a table of their results.

`stages` decides which steps run and in which order, `process` runs one command, `read` parses its output, `session` executes
the steps, `report` writes the table. Needs Python 3.8 and no packages; if PyTorch is installed, its times are measured, too.
"""
