"""Every touch of the host. The only place that knows libbpf, nft and cgroups.

    fence     up(place, keep) -> Fence, attached, down, status, revoke: the pinned layer. Place names slice, root, port
    load      what up() does: the objects of bpf/, attached in the place of those before, or not at all
    coverage  read(fence) -> accounts of what left each cgroup, by way; retire(fence)
    unix      allow(fence, list): the unix sockets that may be spoken to
    networks  in_each(slice, do): once in every network namespace below the slice
    table     Table(port, mark, queue).put(), .release(); apply(), remove(): our nftables table, owned
    queued    chains(queue): the part of the table that gives packets to the packet engine
    queues    Queues.open(first).read(), .verdict(...), .flush(), .losses: packets the kernel holds for us, in turns
    queue     Queue.open(number): the same, one of them
    speakers  Speakers(fence.speakers, place.cgroup).find(mark) -> Peer: who sends over the socket with this mark
    queueable look(port): whether this host can; for check
    passage   Passage(fence).open(pings) -> mark, .shut(), .forged: what lets out what the engine has judged
    judge     Judge(fence).write(entries), .refresh(): what the kernel denies or passes by itself
    peers     Peers(fence.peers, place.cgroup, fence.images, fence.carried).find(peer, server) -> Peer: who connected
    finder    Finder().find(executed) -> Image: what an executable is, by image, package and script
    events    Ring(fence.events, take): what the kernel tells of execs; attribution in service/ answers by fence.found
    observe   Observer(groups, pid).look(), .consume(), .lost(): what processes write and read through OpenSSL
    symbols   functions(fd, names) -> {name: offset in the file}
    unit      unit(cgroup), container(cgroup), whole(cgroup), believed(top, cgroup): names in cgroups
    freezer   do(freeze | thaw | kill, top, cgroup), frozen(top)
    containable gaps(place) -> list[Gap]: who in the slice cannot be held
    original  original(socket) -> Address | None: where they were going
    nft       ruleset(port, mark) -> str, removal() -> str, apply(script), listing(), present(): steering
    cgroups   create, identifier, move, governed, processes
    check     preflight(place, running) -> list[Finding]
    layout    the structs shared with bpf/vendorgate.h; STEER_MARK
    libbpf    Object, Link, Map over libbpf.so.1
    pins      where it is pinned

Start: nft.apply(ruleset) after fence.up; stop: the fence stays, the table may too.
"""
