"""Numbers of SQL as they are written out."""

from decimal import Decimal, InvalidOperation

MAX_DIGITS = 64  # of a number with an exponent that are written out; of a server's exact numbers there are 65


def written(number: str) -> str:
    """Return a number without its exponent, unless that makes it very long."""
    try:
        found = Decimal(number)
    except InvalidOperation:  # an exponent that no number has
        return number
    return f"{found:f}" if abs(found.adjusted()) < MAX_DIGITS else number
