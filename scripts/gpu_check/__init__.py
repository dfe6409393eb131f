"""Everything that only a GPU can tell, as a list of steps with a time limit each, and a table of what they said.

`stages` says what is run and when, `process` runs one command, `read` understands what it printed, `session` plays the
steps, `report` writes the table. Needs Python 3.8 and nothing beside it; PyTorch alone is asked for times, if it is there.
"""
