"""The verifier as one file without dependencies, joined from the modules of audit/."""

import re
from importlib.resources import files

MODULES = ("primitives", "stream", "ledger", "manifest", "walk", "check", "program")  # in the order of their imports
OURS = re.compile(r"^from appliance\.record\.audit\.\w+ import [^\n]+\n", re.M)
FUTURE = "from __future__ import annotations\n"
HEAD = '''#!/usr/bin/env python3
"""Checks a record of vendorgate: chain, signatures, roots, completeness. One file, for Python 3.9 and later.

    python3 verify.py DIRECTORY [--key HEX|FILE] [--anchors FILE] [--from TIME] [--to TIME] [--json]

DIRECTORY has `records/` and `proof/`: what `vendorgate export --bundle` wrote, or a state directory. An export needs
nothing but the standard library; packed segments of a state directory also need Python 3.14, or the program zstd.
Exit status: 0 whole; 1 not, and the first bad place is named first; 2 wrong use; 3 it cannot be read.

The key beside the record proves nothing against one who could replace both: compare its name, or give --key; and
give --anchors what was kept elsewhere. Licence: Apache-2.0.
"""

'''


def source() -> str:
    """Return the text of the file."""
    parts = [HEAD, FUTURE]
    for name in MODULES:
        text = files("appliance.record.audit").joinpath(f"{name}.py").read_text()
        text = OURS.sub("", text.replace(FUTURE, ""))
        docstring = re.compile(r'\A"""(.*?)"""\n', re.S)
        found = docstring.match(text)
        assert found
        parts.append(f"\n# {'-' * 30} {found[1].strip().splitlines()[0]}\n{text[found.end() :]}")
    return "".join(parts)
