"""What the control interface shows of the hub, and does with it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from appliance import compiled
from appliance.control.desk import Desk, Status
from appliance.kernel import fence
from appliance.record.export import Export
from appliance.record.frame import Frame
from appliance.record.session import Filter, Session
from appliance.service.exports import Exports

if TYPE_CHECKING:
    from appliance.service.hub import Hub


class Desks:
    """Fills the `Desk` of one hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._started = time.time()

    def desk(self) -> Desk:
        hub = self._hub
        return Desk(
            status=self._status,
            sessions=self._sessions,
            session=self._session,
            frames=self._frames,
            approvals=lambda: hub.approvals.pending(time.time()),
            question=hub.approvals.question,
            answer=hub.questions.review,
            reload=hub.reload,
            contain=hub.containment.order,
            export=self._export,
        )

    def _status(self) -> Status:
        hub = self._hub
        state = fence.status(hub.place)
        ready = sum(member.revision == hub.policy.revision for member in hub.crew.members)
        problems = self._problems(ready, state.missing)
        return Status(
            ready=state.up and ready > 0 and "steering" not in hub.troubles,
            version=version("vendorgate"),
            compiled=compiled.in_use(),
            started=self._started,
            rules_revision=hub.policy.revision,
            rules_error=hub.rules_error,
            coverage={
                "slice": hub.place.slice,
                "cgroups": state.cgroups,
                "steering": "steering" not in hub.troubles,
                "workers": len(hub.crew.members),
                "workers_ready": ready,
                "containers": hub.nested.count,
                **hub.ledger.shown(),
            },
            fence={"up": state.up, "relay_port": state.relay_port, **state.counters},
            losses=self._losses(state.counters),
            workers=self._workers(),
            engine=hub.engines.shown(),
            pending=len(hub.approvals.pending(time.time())),
            frozen=hub.containment.frozen(),
            problems=problems,
        )

    def _problems(self, ready: int, missing: Sequence[str]) -> tuple[str, ...]:
        hub, found = self._hub, []
        if hub.rules_error:
            found.append(f"rules: {hub.rules_error}")
        if hub.judge_error:
            found.append(f"the kernel does not take the rules, so all is inspected: {hub.judge_error}")
        if missing:
            found.append(f"the fence lacks {', '.join(missing)}")
        if ready < len(hub.crew.members):
            found.append(f"{len(hub.crew.members) - ready} of {len(hub.crew.members)} workers are not ready")
        if hub.trail.error:
            found.append(f"nothing can be approved, the trail cannot be written: {hub.trail.error}")
        if hub.ledger.problem:
            found.append(hub.ledger.problem)
        if hub.engines.problem:
            found.append(hub.engines.problem)
        if hub.berth.problem:
            found.append(hub.berth.problem)
        return (*found, *hub.troubles.values(), *hub.notary.troubles.values(), *hub.lacks)

    def _losses(self, fence: Mapping[str, int]) -> dict[str, int]:
        lineage = {name: fence.get(name, 0) for name in ("lost_process", "unknown_process", "lost_event")}
        crew = Counter(self._hub.crew.losses())
        crew.update(self._hub.engines.losses())
        images = crew.get("unattributed", 0) + self._hub.attribution.lost
        return {**crew, **lineage, "unattributed": images, "incidents": self._hub.incidents}

    def _workers(self) -> dict[str, str | int]:
        found: dict[str, str | int] = {}
        for member in self._hub.crew.members:
            name = f"worker{member.number}"
            found[name] = "ready" if member.revision else "starting" if member.running else "ended"
            found[f"{name}.pid"] = member.running.process.pid if member.running else 0
            found[f"{name}.starts"] = member.starts
            if member.health:
                found[f"{name}.flows"] = member.health.flows
                found[f"{name}.messages"] = member.health.messages
        return found

    # -- in a thread -----------------------------------------------------------------------------------------

    def _sessions(self, wanted: Filter) -> Sequence[Session]:
        with suppress(OSError):  # its chore says so; what was taken before can be read
            self._hub.stores.take()
        self._hub.index.catch_up()
        return self._hub.index.sessions(wanted)

    def _session(self, id: str) -> Session | None:
        return next((s for s in self._sessions(Filter(id=id)) if s.id == id), None)

    def _frames(self, id: str) -> Iterator[Frame]:
        if self._session(id) is None:
            raise KeyError(id)
        return self._hub.index.frames([id])

    def _export(self, asked: Export, by: str) -> Iterator[bytes]:
        hub = self._hub
        with suppress(OSError):
            hub.stores.take()
        hub.index.catch_up()
        keeper = hub.notary.keeper
        exports = Exports(hub.settings.state_dir, hub.index, keeper.signer, keeper.note, lambda: hub.policy.patterns)
        return exports.open(asked, by)
