"""Flows that wait for a reviewer: answered, withdrawn, denied."""

from appliance.model import Answered
from tests.relay.sessions import Holds, looped, until, world


@looped
async def test_question_is_answered_and_released() -> None:
    async with world(Holds) as here:
        reader, writer = await here.client()
        writer.write(b"drop it")
        await until(lambda: len(here.questions) == 1)
        assert "message" not in here.kinds()
        here.relay.answer(Answered("f0-1", approved=True))
        assert await reader.readexactly(7) == b"drop it"
        writer.close()


@looped
async def test_question_is_withdrawn_when_the_client_leaves() -> None:
    async with world(Holds) as here:
        _, writer = await here.client()
        writer.write(b"drop it")
        await until(lambda: len(here.questions) == 1)
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert [w.id for w in here.withdrawn] == ["f0-1"]
        here.relay.answer(Answered("f0-1", approved=True))  # too late: nobody takes it


@looped
async def test_question_is_withdrawn_when_its_flow_is_ended() -> None:
    async with world(Holds) as here:
        _, writer = await here.client()
        writer.write(b"drop it")
        await until(lambda: len(here.questions) == 1)
        here.relay.abort()
        await until(lambda: here.relay.flows == 0)
        assert [(w.id, w.reason) for w in here.withdrawn] == [("f0-1", "the flow ended")]
        writer.close()


@looped
async def test_held_questions_are_denied_when_nobody_can_answer() -> None:
    async with world(Holds) as here:
        reader, writer = await here.client()
        writer.write(b"drop it")
        await until(lambda: len(here.questions) == 1)
        here.relay.deny_held("the hub is gone")
        assert await reader.read(100) == b"DENIED the hub is gone"
        writer.close()


@looped
async def test_question_that_cannot_be_asked_is_denied() -> None:
    async with world(Holds) as here:
        here.unaskable = "too large for review"
        reader, writer = await here.client()
        writer.write(b"drop it")
        assert await reader.read(100) == b"DENIED too large for review"
        writer.close()
