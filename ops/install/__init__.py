"""Install Freezeframe as a user does, and nowhere near the checkout.

Words
    wheel         the distribution, built from a copy of the sources: an old `build/` of the checkout gets into none
    wheelhouse    a directory with that wheel and all that it depends on, in the versions of ops/lock, checked by hash;
                  pip needs no index beside it
    environment   a virtual environment of the distribution's Python, with some extras and without what developers need
"""

from ops.install.environment import Environment
from ops.install.wheelhouse import Wheelhouse, build_wheel, copy_sources

__all__ = ["Environment", "Wheelhouse", "build_wheel", "copy_sources"]
