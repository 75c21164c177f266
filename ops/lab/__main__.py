"""`python -m ops.lab`."""

import sys

from ops.lab.cli import app
from ops.lab.errors import LabError

if __name__ == "__main__":
    try:
        app()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(1)
