"""Names with dots, as rules and the record write them."""


def full(*parts: str) -> str:
    """Return a dotted name; parts that hold a dot or a quote are in double quotes."""
    return ".".join('"' + p.replace('"', '""') + '"' if "." in p or '"' in p else p for p in parts)
