"""The filter that a worker attaches to a connection before it closes it: see bpf/frozen.bpf.c."""

import os

from appliance.kernel.libbpf import Object
from appliance.kernel.load import object_directory


def program() -> int:
    """Load it, and return its descriptor.

    Raises:
        HostError: the kernel does not take it, or it was not compiled.
    """
    with Object(object_directory() / "frozen.bpf.o") as loaded:
        return os.dup(loaded.program_fd("vg_frozen"))
