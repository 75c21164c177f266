"""The repository, without a hypervisor: its formats, its order of writes, and what a crash leaves."""
