"""Every touch of the host. The only place that knows libbpf, nft and cgroups.

    fence     up(place) -> Fence, attached, down, status: the pinned layer. Place names slice, root and port
    judge     Judge(fence).write(entries), .refresh(): what the kernel denies or passes by itself
    peers     Peers(fence.peers, place.cgroup).find(peer, server) -> Peer | None: who connected
    original  original(socket) -> Address | None: where they were going
    nft       ruleset(port, mark) -> str, removal() -> str, apply(script), listing(), present(): steering
    cgroups   create, identifier, move, governed, processes
    check     preflight(place, running) -> list[Finding]
    host      Host(): all of it as one struct of callables; a test passes its own
    layout    the structs shared with bpf/vendorgate.h; STEER_MARK
    libbpf    Object, Link, Map over libbpf.so.1
    pins      where it is pinned

Start: nft.apply(ruleset) after fence.up; stop: the fence stays, the table may too.
"""
