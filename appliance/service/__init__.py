"""Builds everything once: the hub (`run`) and its workers (worker.py). Only the CLI imports it."""

from pathlib import Path


def run(settings_path: Path) -> int:
    """Run the hub until SIGTERM; return the exit status.

    0: stopped as told; 2: bad configuration; 3: the host cannot do it, or what must be in force was lost.
    """
    # Not above: a worker, which imports this package too, must not pay for what only the hub needs.
    from appliance.service.start import run as serve  # noqa: PLC0415

    return serve(settings_path)
