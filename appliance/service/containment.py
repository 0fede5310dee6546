"""Freezing, thawing and ending what is governed: by hand over the control interface, or by a rule's `on_incident`.

What is done is the kernel's (kernel/freezer.py) and outlives us. Observing is the client's own work (cli/observe.py):
here it is told whom, and that somebody does. All of it is recorded as a session of vendorgate itself, and
told in the journal.
"""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.control.desk import Contained, Order
from appliance.kernel import cgroups, coverage, freezer, unit
from appliance.kernel.layout import Executed, Image
from appliance.kernel.libbpf import Map
from appliance.kernel.peers import made, with_image
from appliance.model import ConfigError, Flow, HostError, Note, Process
from appliance.policy.patterns import Paths
from appliance.policy.rule import Identity
from appliance.record.log import Log
from appliance.record.whose import HUB
from appliance.relay.channel import Contain
from appliance.service.ids import Ids
from appliance.service.opened import NOWHERE

if TYPE_CHECKING:
    from appliance.service.hub import Hub

log = logging.getLogger("vendorgate.hub")

DONE = {"freeze": "frozen", "thaw": "thawed", "kill": "killed"}
PIDS = 4  # bytes of the key of lineage
ITSELF = "vendorgate itself"
# layout.Reason by name: what no honest program does. Others of them are a matter of configuration.
EVASIONS = ("kill_foreign", "refuse_foreign", "refuse_family", "refuse_option", "refuse_relay", "drop_not_relay")


class Containment:
    """Carries out orders of one hub. `order` may wait for the kernel: it is for a thread."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._top = hub.place.cgroup
        self._ids = Ids(HUB)
        self._log = Log(hub.stores.records, "contain")
        self._lock = threading.Lock()  # one reaction at a time
        self._writing = threading.Lock()
        self._tried: dict[str, int] = {}  # cgroup -> attempts to get round the fence, at the last look

    def order(self, order: Order, by: str) -> Contained:
        """Do what somebody asked for.

        Raises:
            ConfigError: it is nobody, or everybody without `all`.
            HostError: the kernel will not, or it is to observe and cannot be recorded.
        """
        if order.do == "observe":
            return self._observed(order, by)
        paths = self._meant(order)
        reason = f": {order.reason}" if order.reason else ""
        return self._carry_out(order.do, paths, f"{order.who or 'all'}{reason}", by)

    def react(self, asked: Contain) -> None:
        """Freeze the unit of a process, as a rule has it. What is frozen already is left alone."""
        path = unit.whole(asked.cgroup)
        why = f"rule {asked.rule}: {asked.why}"
        there = self._top / path
        if not path or path == "." or ".." in path.split("/") or not there.is_dir():
            self._hub.incident(f"{why}: cannot freeze {path or 'the slice itself'}", asked.flow)
            return
        threading.Thread(target=self._react, args=(path, why, asked.flow), name="freeze", daemon=True).start()

    def watch(self) -> None:
        """Look for attempts to get round the fence since the last look, where a rule wants to know. May block."""
        rules = [rule for rule in self._hub.policy.rules if rule.on_incident and not rule.shadow]
        before, self._tried = self._tried, self._look()
        for path, number in self._tried.items() if rules else ():
            if number > before.get(path, 0):
                who = self._hub.policy.identify(Process(0, 0, "", (), path, -1))
                rule = next((rule for rule in rules if self._hub.policy.who(rule, who) is not False), None)
                if rule:
                    self.react(Contain("", path, rule.id, "it tried to get round the fence"))

    def started(self) -> "Containment":
        """Count attempts from here on."""
        self._tried = self._look()
        return self

    def _look(self) -> dict[str, int]:
        """Return how often each cgroup has tried, since the fence is up."""
        return {
            one.cgroup: sum(one.reasons.get(name, 0) for name in EVASIONS)
            for one in coverage.read(self._hub.fence)
            if one.cgroup is not None
        }

    def frozen(self) -> tuple[str, ...]:
        """Return what stands still now, whoever froze it."""
        return tuple(path or self._hub.place.slice for path in freezer.frozen(self._top))

    def _react(self, path: str, why: str, flow: str) -> None:
        with self._lock:
            try:
                if freezer.is_frozen(self._top / path):
                    return
                self._carry_out("freeze", [path], why, "vendorgate", flow)
            except (HostError, OSError) as error:
                log.critical("%s: %s was not frozen: %s", why, path, error)

    def _carry_out(self, deed: freezer.Deed, paths: list[str], why: str, by: str, flow: str = "") -> Contained:
        number = sum(len(cgroups.processes(self._top / path)) for path in paths)
        slow = [path for path in paths if not freezer.do(deed, self._top, path)]
        names = [path or self._hub.place.slice for path in paths]
        text = f"{DONE[deed]} by {by}: {', '.join(names)}, {number} processes ({why})"
        if slow:
            text += f"; not all of {', '.join(slow)} yet"
        log.warning("%s%s", text, f", flow {flow}" if flow else "")
        self._record(text, by)
        return Contained(deed, tuple(names), number, text)

    def _observed(self, order: Order, by: str) -> Contained:
        paths = (order.who,) if order.pid else tuple(self._meant(order))
        number = 1 if order.pid else sum(len(cgroups.processes(self._top / path)) for path in paths)
        who = f"process {order.pid}" if order.pid else order.who
        reason = f": {order.reason}" if order.reason else ""
        names = ", ".join(path or self._hub.place.slice for path in paths)
        text = f"observed by {by}: {names}, {number} processes ({who}{reason})"
        log.warning("%s", text)
        try:
            self._write(text, by)
        except OSError as error:
            what = f"the record cannot be written: {error.strerror}"
            raise HostError(what, "without it nobody is observed") from error
        return Contained("observe", paths, number, text)

    def _record(self, text: str, by: str) -> None:
        """Write it down. What cannot be written was done all the same: stopping somebody waits for no disk."""
        try:
            self._write(text, by)
        except OSError as error:
            log.critical("the record of it cannot be written: %s", error)

    def _write(self, text: str, by: str) -> None:
        now = time.time()
        flow = Flow(self._ids.next(), now, NOWHERE, NOWHERE, None)
        notes = (Note("opened", ITSELF), Note("answered", text, by=by), Note("closed", text))
        with self._writing:
            self._log.append(flow, notes, now)
            self._log.seal()

    # -- who is meant ----------------------------------------------------------------------------------------

    def _meant(self, order: Order) -> list[str]:
        """Return cgroups, none below another."""
        if order.all:
            return [""]
        there = [path for path in cgroups.governed(self._top).values() if path]
        identity = next((one for one in self._hub.policy.identities if one.name == order.who), None)
        found = self._of_identity(identity, there) if identity else _matching((order.who,), there)
        if not found:
            what = "no process runs as" if identity else "there is no identity and no cgroup"
            raise ConfigError(order.do, f"{what} `{order.who}`")
        if "" in found:
            what = f"`{order.who}` runs in {self._hub.place.slice} itself"
            raise ConfigError(order.do, what, "--all means everybody in it")
        return _topmost(found)

    def _of_identity(self, identity: Identity, there: list[str]) -> list[str]:
        """Return the cgroups an identity names, or else those its processes are in."""
        if set(identity.keys) == {"cgroup"}:
            return _matching(identity.cgroup, there)
        return [p.cgroup for p in self._processes() if identity.match(p)]

    def _processes(self) -> list[Process]:
        """Return what is known of all governed processes."""
        lineage, images = Map(self._hub.fence.lineage), Map(self._hub.fence.images)
        found = []
        for path in cgroups.governed(self._top).values():
            for pid in _here(self._top / path):
                data = lineage.lookup(pid.to_bytes(PIDS, sys.byteorder))
                if data is None:
                    continue
                who = Executed.unpack(data)
                process = made(who, path, who.uid)
                image = images.lookup(who.image)
                process = with_image(process, Image.unpack(image)) if image else process
                believed = unit.believed(self._top, path)
                names = {"unit": unit.unit(believed), "container": unit.container(believed)}
                found.append(msgspec.structs.replace(process, **names))
        return found


def _here(path: Path) -> list[int]:
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    except OSError:  # removed while we looked, or threaded
        return []


def _matching(patterns: tuple[str, ...], there: list[str]) -> list[str]:
    paths = Paths(patterns)
    return [path for path in there if paths.match(path)]


def _topmost(paths: list[str]) -> list[str]:
    """Return the paths that are not below another of them."""
    found: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(one + "/") for one in found):
            found.append(path)
    return found
