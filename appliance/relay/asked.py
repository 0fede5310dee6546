"""Whose question waits for the reviewers: of the flows of one process, whoever drives them."""

import asyncio
from collections.abc import Callable

from appliance.model import Answered, Question, Withdraw


class Asked:
    """`send` puts a question to the hub, ValueError if it cannot be asked; `take_back` withdraws one.

    `after` is called when an answer was given to its flow.
    """

    def __init__(
        self,
        send: Callable[[Question], None],
        take_back: Callable[[Withdraw], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._send, self._take_back, self._after = send, take_back, after
        self._waiting: dict[str, Callable[[Answered], None]] = {}
        self._loop = asyncio.get_running_loop()

    def ask(self, question: Question, answer: Callable[[Answered], None]) -> None:
        """Put a question; `answer` is called later."""
        self._waiting[question.id] = answer
        try:
            self._send(question)
        except ValueError as error:
            no = Answered(question.id, approved=False, by="vendorgate", reason=str(error))
            self._loop.call_soon(self.answer, no)

    def withdraw(self, effect: Withdraw) -> None:
        """Take a question back that waits."""
        if self._waiting.pop(effect.id, None):
            self._take_back(effect)

    def answer(self, answered: Answered) -> None:
        """Give an answer to the flow that asked; nothing happens if it is gone."""
        give = self._waiting.pop(answered.id, None)
        if give:
            give(answered)
            self._after()

    def deny_all(self, reason: str) -> None:
        """Deny every question that waits, when nobody can answer any more."""
        for id in list(self._waiting):
            self.answer(Answered(id, approved=False, by="vendorgate", reason=reason))
