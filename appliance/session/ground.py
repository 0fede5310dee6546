"""Who speaks and to where, as the rules in force name them, and what they say between the two."""

import msgspec

from appliance.facts import Facts
from appliance.facts.hosts import forms
from appliance.model import Address, Decision, Flow, Message, Note, Place, Question, Side, Trust
from appliance.policy import Masks, Policy
from appliance.wire import Wire
from appliance.wire.detect import open as open_wire

CONNECT = "CONNECT"
NOBODY: frozenset[str] = frozenset()
NO_PROXY = "a tunnel is opened only by a rule with `when: {method: CONNECT}`, which says that a proxy is there"
TUNNEL = "tunnel to "  # how the text of the note begins that says where a flow goes on
MAX_DECIDED = 256  # decisions of a flow remembered by the shape of what they are about


class Ground:
    """What one flow stands on; it changes with the rules."""

    withholds = True  # an answer that a rule blocks does not go down

    def __init__(self, flow: Flow, policy: Policy) -> None:
        self._flow = flow
        self._place = flow.place
        self._tunnel = False  # the place is beyond a proxy
        self.server = str(flow.server)  # that what is known of a server is kept by
        self.inside: frozenset[str] = frozenset()  # the names by which TLS was opened, the server's address if by none
        self._take(policy)

    def meet(self, policy: Policy) -> bool:
        """Take the rules in force; return True if they are others than before."""
        if policy is self._policy:
            return False
        self._take(policy)
        return True

    def _take(self, policy: Policy) -> None:
        self._policy = policy
        self._who = policy.identify(self._flow.process)
        target = policy.target(self._place)
        self.revision = policy.revision
        self.identity = next((name for name in self._who if not name.startswith("?")), "")
        self.target = target.name if target else ""
        self.protocol = target.protocol if target else ""
        self.trust = self.trusts(policy)
        self._masks = policy.masks(self._who, self._place)
        # A verdict that looks at texts is another one for each; else facts of one shape have one verdict.
        self.by_shape = not policy.reads_text(self._who, self._place)
        self._decided: dict[int, tuple[Facts, Decision]] = {}  # by id of the shape, which is kept with it

    def trusts(self, policy: Policy) -> Trust:
        """Return how the server is to prove who it is, by these rules."""
        target = policy.target(self._place)
        trust = target.trust if target else Trust()
        if self._tunnel and self._place.names and not trust.name:
            return msgspec.structs.replace(trust, name=self._place.names[0])
        return trust

    @property
    def policy(self) -> Policy:
        """The rules it stands on."""
        return self._policy

    def wire(self) -> Wire:
        """Return the wire for what is spoken."""
        return open_wire(self.protocol, self._place.transport, self._place.port)

    def opened(self) -> Note:
        text = f"{self._flow.client} -> {self._flow.server}"
        return Note("opened", text, identity=self.identity, target=self.target, protocol=self.protocol)

    def elsewhere(self, where: str) -> str:
        """Return what to say of a server that sends its client to `where` ("host:port"); "" within the target."""
        host, _, port = where.rpartition(":")
        try:
            target = self._policy.target(Address.of(host.strip("[]"), int(port)))
        except ValueError:
            target = None
        if not host or (target is not None and target.name == self.target):
            return ""
        known = f"target {target.name}" if target else "no target"
        return f"the server sends its client to {where}, which is of {known}; a connection there is judged as any other"

    def admit(self) -> Decision:
        return self._policy.admit(self._who, self._place)

    def passes(self) -> Decision | None:
        return self._policy.passes(self._who, self._place)

    def unread(self, facts: Facts) -> Decision:
        """Judge TLS that is not opened by what is said before all is hidden."""
        trust = self.trust
        passed = trust.passes and (not trust.name or trust.name in facts.values.get("sni", NOBODY))
        return self.decide(facts) if passed else Decision("block", "", reason="the target no longer passes TLS")

    def through(self, where: str) -> str:
        """What follows goes to `where` ("host:port"), which a proxy has opened. Return why it may not; "" if it may.

        A name is taken for that of a target, at the addresses that has: which of them the proxy finds is not seen
        here, so none may be refused. Nor may any that an address carries, or stands for.
        """
        host, _, port = where.rpartition(":")
        if self.inside:
            return "what a proxy spoken to in TLS opens could not be opened here"
        places = self._beyond(host, port)
        if not places:
            return f"no target has the name {host[:200]}"
        if any(self._policy.admit(self._who, place).verdict == "block" for place in places):
            return f"no rule allows a connection to {where[:200]}"
        return ""

    def enter(self, where: str) -> Note:
        """Stand on the place beyond the proxy from now on."""
        host, _, port = where.rpartition(":")
        self._place = next(iter(self._beyond(host, port)), self._place)
        self._tunnel = True
        self._take(self._policy)
        # What is known of the proxy's server is nothing about this one.
        self.server = f"{' '.join((*self._place.names, str(self._place)))} by {self._flow.server}"
        text = f"{TUNNEL}{where}"
        return Note("message", text, Side.SERVER, "tunnel", target=self.target, protocol=self.protocol)

    def opened_by(self, name: str, asked: str) -> None:
        """TLS is opened by a name. What its client asked for is another one of the server's only if rules say so.

        Beyond a proxy it is by the name that was asked of that, and no other's.
        """
        target = self._policy.target(self._place)
        hosts = target.hosts if target else ()
        names = (name, *(host.name for host in hosts if host.name == asked))
        if self._tunnel and (self.trust.name or self._place.names):
            names = (self.trust.name, *self._place.names)
        self.inside = frozenset(names) - {""}
        self._decided.clear()  # verdicts look at it

    @property
    def called(self) -> tuple[str, ...]:
        """Return what the server is called, where its client does not say it: by DNS, or to a proxy."""
        return self._place.names or ((self._place.host,) if self._tunnel else ())

    def _beyond(self, host: str, port: str) -> tuple[Place, ...]:
        """Return the places that a host may be, the first as it is called; none if no target has the name."""
        name, at = host.strip("[]").rstrip("."), int(port) if port.isdigit() else 0
        try:
            address = Address.of(name, at).host
        except ValueError:
            pass
        else:
            return tuple(Place(form, at) for form in forms(address))
        for target in self._policy.targets:
            for one in target.hosts:
                if one.name == name and one.low <= at <= one.high:
                    return tuple(Place(form, at, names=(name,)) for host in one.found for form in forms(host))
        return ()

    def decide(self, facts: Facts) -> Decision:
        shape = facts.shape if self.by_shape else None
        if shape is None:
            return self._decide(facts)
        found = self._decided.get(id(shape))
        if found is None:
            if len(self._decided) >= MAX_DECIDED:
                self._decided.clear()
            found = self._decided[id(shape)] = (shape, self._decide(facts))
        return found[1]

    def _decide(self, facts: Facts) -> Decision:
        tunnels = CONNECT in facts.values.get("method", ())
        if tunnels:
            places = [f"{host}:{port}" for host in facts.values["host"] for port in facts.values["port"]]
            why = next(filter(None, map(self.through, places)), "" if places else "CONNECT to no place")
            if why:
                return Decision("block", "", revision=self.revision, reason=why)
        host = self._place.host
        others = facts.values.get("host", NOBODY) - self.inside - {host, f"[{host}]"}
        if others and self.inside - {host}:
            # Opened for one name and asked for another, a front would hand it on to whom no rule looked at.
            reason = "the request is for another host than its TLS"
            return Decision("block", "", revision=self.revision, reason=reason)
        decision = self._policy.decide(self._who, self._place, facts)
        if tunnels and decision.verdict != "block" and not self._named(decision.rule):
            return msgspec.structs.replace(decision, verdict="block", reason=NO_PROXY, approval=None)
        if self.inside == {host}:
            called = others  # opened by an address, TLS names nobody: the request does
        else:
            called = (self.inside or facts.values.get("sni", NOBODY)) - {host, self.trust.name}
        if called and decision.verdict != "block" and not self._policy.called(decision.rule, self._place, called):
            # Many are behind one address. The rule lets by the one that it names, as a reviewer would take it to do.
            reason = f"TLS is for {', '.join(sorted(called))[:200]}, and the rule is about another name at its address"
            return msgspec.structs.replace(decision, verdict="block", reason=reason, approval=None)
        return decision

    def _named(self, rule: str) -> bool:
        """Return True if a rule says CONNECT: its server is a proxy, and what it opens is what was asked for.

        Any other could take what is said for itself, while it is judged by the rules for the place it names.
        """
        return any("method" in one.when for one in self._policy.rules if one.id == rule)

    def masks(self) -> Masks:
        """Return the one object for as long as the rules are the same."""
        return self._masks

    def names(self) -> bool:
        return self._policy.names(self._who, self._place)

    def question(
        self, id: str, message: Message, subject: str, decision: Decision, *, asked: float, cancel_key: bytes
    ) -> Question:
        """Return what the reviewers are asked about a message, `asked` in unix seconds."""
        within = decision.approval.within_s if decision.approval else 0.0
        return Question(
            id=id,
            flow=self._flow,
            identity=self.identity,
            target=self.target,
            protocol=self.protocol,
            text=subject,
            raw=b"" if message.secret else message.raw,
            decision=decision,
            asked=asked,
            expires=asked + within,
            cancel_key=cancel_key,
        )
