"""A fleet: one process that plays many hosts to a real orchestrator, over a real Redis. Nothing of it is a guest.

    queue ─▶ line ─▶ Celery's own request ─▶ workers.steps.frame.run_step ─▶ a made-up step ─▶ result, as a worker tells it
    beside them, for each host: the entry into the inventory every 2 s, recovery's look every 5 s

*line*       one worker's connection that waits for its orders, by kombu's command for that
*made up*    guests, disks, definitions and answers: as large as real ones, and of one disk the same each time

All that a real host says to Redis goes through the code of the real one, or has the same commands: `tests/scale/test_honest.py`
compares them. A transfer writes nothing: the indexes that it names are in the repository before.
"""
