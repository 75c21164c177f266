"""Faults: every part of the system ended, stopped or cut off at every step of the path, on the real lab, from outside.

A *cell* is one fault at one step. `stage` brings a capture to a step and keeps it there, `kinds` knows the faults and how a
supervisor mends them, `cell` plays a cell and judges what is left, `account` writes the table, docs/faults.md. `two` lists two
faults in one capture and `pairs` plays them. Tests whose fault is none of a part (agents, messages) fill cells too. `again`
has a run play only the cells that are missing or old.

Nothing in the product is changed or hooked for it: what is used is what an operator has (signals, redis-cli, cables) and
what a guest has (its agent's own freeze hook, its own processes).
"""
