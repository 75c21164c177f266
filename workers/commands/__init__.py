"""The verbs that run on a hypervisor host: its services (`worker`, `guard`) and its red buttons (`thaw`, `recover`).

`freezeframe` finds them through the entry points of the group `freezeframe.commands`.
"""
