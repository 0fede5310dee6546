"""What is counted: of one worker, and of one flow whose session notes no messages."""

from collections.abc import Sequence

from appliance.model import Note, Side


class Counts:
    """What one worker did since it started."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0  # no flow could be made of it: unknown process, or aimed at the relay itself
        self.full = 0  # over a limit of connections
        self.unreached = 0  # upstream refused or silent
        self.failed = 0  # exceptions of sessions
        self.unrecorded = 0  # flows ended because the record could not be written
        self.messages = 0
        self.bytes = 0  # sent, both ways


class Tally:
    """Counts what is sent to each side of a flow.

    The rules may pass a flow unread: then the notes that end it are completed with the sums.
    """

    def __init__(self) -> None:
        self.sent = {Side.CLIENT: 0, Side.SERVER: 0}
        self._noted = False  # the session notes messages, or the sums are noted

    def completed(self, notes: Sequence[Note]) -> list[Note]:
        """Return the notes, with the sums before the last of a flow that had no others of its bytes."""
        self._noted = self._noted or any(note.kind == "message" for note in notes)
        if self._noted or not any(note.kind == "closed" for note in notes):
            return list(notes)
        self._noted = True
        sums = [
            Note("message", f"{size} bytes passed unread", to.other, "unread", size=size)
            for to, size in self.sent.items()
            if size
        ]
        return [*sums, *notes]
