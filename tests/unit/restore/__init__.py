"""Restore: real repositories, real images, the real qemu-nbd; no hypervisor."""
