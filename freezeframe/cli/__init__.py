"""The command line: `freezeframe <verb>`, one verb a file.

A *verb* is a function that typer turns into a command; `verbs` knows where each is and loads it when it is asked for. The
verbs that need a hypervisor or the orchestrator live with those packages and come in through the entry points of the group
`freezeframe.commands`. `failure` shows errors, `output` tables, sizes and JSON, `progress` long work: the same everywhere.

What a program may rely on: with `--json` stdout holds one JSON document and nothing else; people's words go to stderr. The
exit code is the error's (`freezeframe.errors`), 2 for wrong usage, 130 after Ctrl-C.
"""
