"""`python -m freezeframe`: the same as the `freezeframe` command, for where the interpreter must be a certain one."""

from __future__ import annotations

from freezeframe.cli.app import main

if __name__ == "__main__":
    main()
