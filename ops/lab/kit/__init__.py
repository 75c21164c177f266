"""The guest image kit: a kernel and an initramfs that boot a guest with a real agent in seconds.

Words
    package    a Debian package, downloaded and unpacked, never installed on the machine
    kit        kernel, initramfs and the note which versions they were made of, in a directory named after those
    cache      the directory that holds kits and downloaded packages; kept between labs, safe to remove without one

A kit is made in a directory of another name and renamed when complete: whoever sees it sees all of it. A crash leaves
a `making-*` directory in the cache, which the next making removes under the cache's lock.
"""

from ops.lab.kit.accelerator import accelerator
from ops.lab.kit.cache import Kit, default_cache

__all__ = ["Kit", "accelerator", "default_cache"]
