"""How the work of the orchestrator grows with a capture: counted, not timed, so that each run counts the same.

capture.py    a capture of as many hosts, guests and disks as wanted, as the parts tell of it at each step: real messages
counting.py   how many steps of the interpreter a call takes, comparisons of ids inside sets and tuples included
cases.py      the functions that are counted, which planning.py, deciding.py and sealing.py call

And whole captures of a fleet (`ops/fleet`) by a real orchestrator over a real Redis (test_captures.py).
"""
