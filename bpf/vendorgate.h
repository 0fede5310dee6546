/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The values that the kernel side and appliance/kernel/layout.py share. Every struct is laid out without holes,
 * its size is asserted here, and a test compares it with Python's. Addresses and ports are in network order;
 * an IPv4 address is in the first four bytes and the rest are zero. A mapped address is written as IPv4.
 */
#ifndef VENDORGATE_H
#define VENDORGATE_H

#define VG_LAYOUT 6		  /* raise when a struct or a map below changes shape */
#define VG_STEER_MARK 0x56470001 /* "VG", 1. nftables redirects it; the fence never looks at it */
#define VG_QUEUE_MARK 0x57000000 /* of a socket whose packets go to the packet engine; in it the number of its speaker */
#define VG_QUEUE_TAG 0xff000000	 /* bits that tell such a mark */
#define VG_QUEUE_DIRECT 0x00800000 /* bit: what it sends now is direct, not for the engine */
#define VG_QUEUE_SLOT 0x00007fff   /* bits of that number */
#define VG_QUEUE_TURN 15	   /* how far the number of its queue is above them */

#define VG_EXE 256	   /* bytes with the NUL; a longer path is recorded as unknown, never cut */
#define VG_CWD 256	   /* bytes with the NUL; a longer working directory is recorded as unknown */
#define VG_ARGV 1024	   /* bytes; a longer command line is cut and flagged */
#define VG_PARENTS 1024	   /* bytes; about fifty executables, what is beyond is flagged */
#define VG_DEPTH 48	   /* path components and mounts walked for one executable */
#define VG_RANGES 64	   /* port ranges of one prefix; Python writes `inspect` for what is beyond */
#define VG_PEERS 4096	   /* flows from handshake to accept: twice what all listen queues of the relay hold */
#define VG_RATE 1000	   /* flows a second that one vendor may open; a relay of one core takes about this many */
#define VG_PROCESSES 65536 /* two times the default pid_max of 32768 */
#define VG_IMAGES 8192	   /* what user space found out of executables; what is evicted is asked for again */
#define VG_CARRIED 1024	   /* sockets that outlived an exec of their holder; few programs do that */
#define VG_EVENTS (4 << 20) /* bytes of the ring: 2,500 execs that user space has not taken yet */
#define VG_DESCRIPTORS (1 << 20) /* searched for sockets at an exec of a process that has connected: fs.nr_open */
#define VG_PACKAGE 128
#define VG_SCRIPT 256
#define VG_SCOPES 4096	   /* cgroups below the slice */
#define VG_LEDGER 8192	   /* cgroups that are counted: as many again for those that are gone and not yet read */
#define VG_LEVELS 16	   /* cgroups above one, looked through for the slice */
#define VG_PREFIXES 65536
#define VG_SPEAKERS 16384  /* sockets that may send to the packet engine, 45 MB when all are; a vendor's are at most */
#define VG_SHARE 4096	   /* a quarter; with those that closed within VG_LINGER that is 800 short-lived ones a second */
#define VG_LINGER 5	   /* seconds from the close of a socket until its number may be another's: packets may wait */
#define VG_PROBES 16	   /* numbers of closed sockets that are looked at when one is made, whether they are free again */
#define VG_QUEUES 32	   /* of the kernel, for the packet engine: a vendor's packets are in one. More vendors share them */
#define VG_NAMESPACES 256    /* network namespaces of containers that the relay listens in */

/* What the rules say of a destination. INSPECT is what is said when nothing matches. */
enum vg_judgement {
	VG_JUDGE_INSPECT = 0,
	VG_JUDGE_DENY = 1,
	VG_JUDGE_DIRECT = 2, /* but for listeners of others on this host */
	VG_JUDGE_HERE = 3,   /* direct, and those too: the rule names the address itself */
	VG_JUDGE_QUEUE = 4,  /* TCP that the packet engine judges; what it judges of UDP and ICMP is `inspect` */
};

/* What the fence keeps on a socket. */
enum vg_verdict {
	VG_NONE = 0,
	VG_INSPECT = 1,
	VG_DIRECT = 2,
	VG_TOLD = 3,   /* inspect, and in `peers` */
	VG_KEPT = 4,   /* from before the fence */
	VG_INSIDE = 5, /* accepted from the same vendor, over lo */
	VG_QUEUED = 6, /* each packet passes by a verdict of the packet engine */
	VG_SENT = 7,   /* UDP: what goes to the destination that is kept is direct */
};

enum {
	VG_SOCKET_HERE = 1,   /* direct to listeners of others on this host, too */
	VG_SOCKET_INSIDE = 2, /* direct over lo, to a listener of the same vendor */
	VG_SOCKET_STREAM = 4, /* `next` is set */
};

/* Why something passed or did not; index of the counters. */
enum vg_reason {
	VG_PASS_RELAY,
	VG_PASS_DIRECT,
	VG_PASS_DATAGRAM,
	VG_DROP_NO_SOCKET,
	VG_DROP_NO_VERDICT,  /* never judged: opened before the fence, accepted, or handed in from outside */
	VG_DROP_NOT_RELAY,   /* judged `inspect`, but steering did not take it to the relay */
	VG_DROP_DATAGRAM,    /* UDP that no rule makes direct */
	VG_DROP_PROTOCOL,    /* neither TCP nor UDP */
	VG_DROP_MALFORMED,
	VG_DROP_REVOKED,     /* was direct, and a later revision of the rules says otherwise */
	VG_REFUSE_RULE,
	VG_REFUSE_SOCKET,    /* socket() of a protocol that is not inspected */
	VG_REFUSE_RELAY,     /* connect or bind to the relay's own port */
	VG_REFUSE_UNSTEERABLE, /* link-local, or another network namespace: no relay can be reached from there */
	VG_REFUSE_HOST,      /* the kernel would not store or mark: refused rather than passed */
	VG_UNKNOWN_PROCESS,  /* connected without a lineage entry; the flow's process is recorded as unknown */
	VG_LOST_PROCESS,     /* no room for a lineage entry */
	VG_INSPECTED,	     /* flows given to the relay */
	VG_REFUSE_RATE,	     /* one vendor opens too many flows a second */
	VG_REFUSE_LEDGER,    /* no room to count the flows of one more cgroup */
	VG_REFUSE_LOOPBACK,  /* a listener on this host that is not the vendor's own, and no rule names */
	VG_REFUSE_OPTION,    /* setsockopt() of a mark, a source route, a foreign source address */
	VG_REFUSE_UNIX,	     /* a unix socket that is not on the list */
	VG_KILL_FOREIGN,     /* sent over a socket from outside, or of such a family, and was killed for it */
	VG_PASS_INSIDE,	     /* between two sockets of one vendor, over lo */
	VG_PASS_KEPT,	     /* of a connection from before the fence, which it was told to keep */
	VG_LOST_EVENT,	     /* no room in the ring: user space was not told of an image */
	VG_REFUSE_FOREIGN,   /* connect or send over a socket that was opened outside the slice */
	VG_REFUSE_FAMILY,    /* socket() of a family that leads out past the fence: packet, vsock and the like */
	VG_UNTAKEN,	     /* bytes, unlike the rest: passed to the relay, and no socket of it took them */
	VG_PASS_ENGINE,	     /* by the packet engine's verdict */
	VG_DROP_ENGINE,	     /* to be judged by the packet engine, and came out without its mark */
	VG_DROP_FORGED,	     /* the same with a mark that is nobody's we know: of other firewalls, or a guess */
	VG_DROP_ANSWER,	     /* came in for a socket whose peers the engine judges, and it had not */
	VG_DROP_SHARED,	     /* judged, and still the process's to change: pages of a file or of its memory, not copied */
	VG_REFUSE_SPEAKER,   /* no number for one more socket that may send to the engine */
	VG_REASONS
};

/* By which way what left a cgroup went. */
enum vg_way {
	VG_WAY_DIRECT,
	VG_WAY_RELAY,
	VG_WAY_ENGINE,	/* the packet engine */
	VG_WAY_INSIDE,
	VG_WAY_KEPT,
	VG_WAY_DROPPED,
	VG_WAYS
};
#define VG_REASON_ROOM 48 /* of vg_coverage, so that one reason more does not change its shape */
_Static_assert(VG_REASONS <= VG_REASON_ROOM, "vg_coverage has room for all reasons");

enum {
	VG_FLAG_ARGV_CUT = 1,
	VG_FLAG_ARGV_UNKNOWN = 2,
	VG_FLAG_SEEDED = 4,
	VG_FLAG_PARENTS_CUT = 8,
	VG_FLAG_CONNECTED = 16, /* it, or what it was forked from, has connected: an exec may hand sockets on */
};

/* One process, copied at exec. `exe` is "" when unknown; one that cannot be trusted to be what its path says
 * starts with a class instead of a slash: "deleted:", "memfd:", "userns:" (on a mount made in a user namespace),
 * "detached:", and "kernel:" for threads of the kernel, which start programs too.
 */
struct vg_process {
	__u64 started; /* start_boottime of the group leader, ns */
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__u32 flags;
	__u32 argv_len;
	__u32 device;
	__u64 inode;
	__u64 executed; /* ns since boot; with `execer` the name of this image for ever. Forks share it */
	__u64 size;
	__s64 changed; /* the inode's ctime as it was at exec, seconds */
	__u32 changed_ns;
	__u32 execer; /* the process that did the exec */
	char exe[VG_EXE];
	char cwd[VG_CWD];
	char argv[VG_ARGV]; /* NUL between the words */
	__u32 parents_len;
	__u32 zero;
	char parents[VG_PARENTS]; /* executables as they were at fork, nearest first, NUL after each */
};
_Static_assert(sizeof(struct vg_process) == 2640, "vg_process");

/* The name of an image. */
struct vg_image_key {
	__u64 executed;
	__u32 execer;
	__u32 zero;
};
_Static_assert(sizeof(struct vg_image_key) == 16, "vg_image_key");

/* What user space found out of an image. Texts end with NUL; one that begins with `?` is not certain. */
struct vg_image {
	__u8 sha256[32]; /* zero: not known */
	__u8 script_sha256[32];
	char package[VG_PACKAGE];
	char script[VG_SCRIPT];
};
_Static_assert(sizeof(struct vg_image) == 448, "vg_image");

/* What user space is told. Holds the front of a vg_process, up to its parents. */
enum vg_event_kind { VG_EVENT_EXEC = 0, VG_EVENT_CONNECT = 1, VG_EVENT_CARRIED = 2 };
#define VG_FRONT 1608 /* offsetof(struct vg_process, parents_len) */
struct vg_event {
	__u32 kind;
	__u32 zero;
	__u64 cookie; /* of VG_EVENT_CARRIED: the socket */
	__u8 front[VG_FRONT];
};
_Static_assert(__builtin_offsetof(struct vg_process, parents_len) == VG_FRONT, "vg_process.parents_len");
_Static_assert(sizeof(struct vg_event) == 1624, "vg_event");

struct vg_address {
	__u8 ip[16];
	__u16 port;
	__u16 family; /* AF_INET or AF_INET6 */
	__u32 protocol;
};
_Static_assert(sizeof(struct vg_address) == 24, "vg_address");

/* One flow given to the relay. `process.started` 0: the process is unknown. */
struct vg_flow {
	__u64 cookie;
	__u64 netns;
	__u64 cgroup;
	__u64 opened; /* ns since boot */
	__u64 sequence; /* among the flows of its cgroup that were put into `peers`, from 1; 0: not put there yet */
	__u64 epoch;	/* of the settings when it was numbered */
	__u32 uid;    /* at connect; process.uid is that at exec */
	__u32 pid;
	struct vg_address to;
	struct vg_process process;
};
_Static_assert(sizeof(struct vg_flow) == 2720, "vg_flow");

/* Kept on each governed TCP socket, and on UDP sockets that send to what is direct. That of an inspected one has its
 * vg_flow beside it: few packets need that, and a direct connection none.
 */
struct vg_socket {
	__u64 owed; /* what passed and is not in the ledger yet: VG_OWED_* */
	__u32 verdict;
	__u32 revision;
	__u32 next;  /* TCP sequence number after the last byte that passed to the relay */
	__u32 flags; /* VG_SOCKET_* */
	struct vg_address to;
	__u64 cgroup;
	__u64 netns;
};
_Static_assert(sizeof(struct vg_socket) == 64, "vg_socket");

/* vg_socket.owed: one bit, packets, bytes. It goes to the ledger when the ledger is read, when the socket is closed, and
 * at VG_OWED_MOST packets: of 512 KiB, more than the kernel makes, those are half of what fits.
 */
#define VG_OWED_PACKET (1ULL << 40)
#define VG_OWED_MOST (1ULL << 60)
#define VG_OWED_NEVER (1ULL << 63) /* this socket owes nothing, each packet is counted at once: nobody would collect it */
_Static_assert(VG_OWED_MOST / VG_OWED_PACKET * (512 << 10) * 2 <= VG_OWED_PACKET, "the bytes of so many packets fit");

/* A socket that may send to the packet engine, and who holds it: the process that made it, connected it or named a
 * destination, whichever was last. By the number in the socket's mark.
 */
struct vg_speaker {
	__u64 vendor; /* whose share it is of */
	__u64 closed; /* ns since boot; 0: open */
	__u32 used;   /* it has had a destination that the engine judges */
	__u32 queue;  /* which it was counted in */
	__u32 zero[2];
	struct vg_flow flow; /* `to` is the destination named last */
};
_Static_assert(sizeof(struct vg_speaker) == 2752, "vg_speaker");

/* What a vendor has of the speakers. */
struct vg_share {
	__u64 numbers;
	__u32 queue; /* of all it sends to the engine over sockets made since it had none */
	__u32 zero;
};
_Static_assert(sizeof(struct vg_share) == 16, "vg_share");

/* What lets packets pass that the engine has judged. The number is drawn at random, and only root can read it. */
struct vg_passage {
	__u32 mark;  /* 0: no engine is in force */
	__u32 flags; /* VG_PASSAGE_* */
};
_Static_assert(sizeof(struct vg_passage) == 8, "vg_passage");
enum { VG_PASSAGE_PING = 1 /* ping sockets may be made: rules speak of ICMP */ };

/* A connection from before the fence that is kept; the iterator over them writes these. */
struct vg_kept {
	__u64 cgroup;
	struct vg_address from;
	struct vg_address to;
};
_Static_assert(sizeof(struct vg_kept) == 56, "vg_kept");

/* One entry of the list of unix sockets: a path with its NUL, a directory with its slash, or an abstract name. */
#define VG_UNIX 8192 /* entries */
struct vg_unix {
	__u32 length; /* bits of what follows */
	__u8 abstract;
	__u8 size; /* of an abstract name, which may hold any bytes; else 0 */
	char path[108];
	__u16 zero;
};
_Static_assert(sizeof(struct vg_unix) == 116, "vg_unix");

struct vg_inode {
	__u64 inode;
	__u32 device;
	__u32 zero;
};
_Static_assert(sizeof(struct vg_inode) == 16, "vg_inode");

/* How the relay finds a flow: the source of its packets as they left, after NAT. */
struct vg_peer {
	__u64 netns;
	__u8 ip[16];
	__u16 port;
	__u16 family;
	__u32 zero;
};
_Static_assert(sizeof(struct vg_peer) == 32, "vg_peer");

/* How many flows a vendor opened in this second. */
struct vg_opened {
	__u64 second;
	__u64 count;
};
_Static_assert(sizeof(struct vg_opened) == 16, "vg_opened");

/* What left one cgroup, since the epoch. `bytes` of the way to the relay are those of the TCP stream, each counted
 * once however often it was sent; of all other ways they are those of the packets with their IP headers.
 */
struct vg_coverage {
	__u64 flows[VG_WAYS];
	__u64 packets[VG_WAYS];
	__u64 bytes[VG_WAYS];
	__u64 reasons[VG_REASON_ROOM]; /* how often by vg_reason, refusals before there was a packet too */
};
_Static_assert(sizeof(struct vg_coverage) == 528, "vg_coverage");

struct vg_prefix {
	__u32 length; /* bits of what follows: 64 for scope and family, then the network's */
	__u32 scope;
	__u32 family;
	__u8 ip[16];
};
_Static_assert(sizeof(struct vg_prefix) == 28, "vg_prefix");

struct vg_range {
	__u16 low; /* host order, both ends included */
	__u16 high;
	__u16 protocol; /* 6 or 17 */
	__u16 judgement;
};
_Static_assert(sizeof(struct vg_range) == 8, "vg_range");

struct vg_ranges {
	__u32 count;
	__u32 zero;
	struct vg_range range[VG_RANGES];
};
_Static_assert(sizeof(struct vg_ranges) == 520, "vg_ranges");

struct vg_settings {
	__u64 netns; /* cookie of the namespace the relay is in */
	__u64 build; /* hash of the objects that are loaded */
	__u64 epoch; /* ns since boot when the maps that count were made */
	__u64 slice; /* id of the governed cgroup */
	__u32 layout;
	__u32 relay_port; /* host order; 0: no relay, nothing to inspect passes */
	__u32 revision;	  /* of the judge map */
	__u32 unknown_scope; /* for cgroups not in the scope map; holds no `direct` */
	__u32 flags;	     /* VG_SET_* */
	__u32 zero;
};
_Static_assert(sizeof(struct vg_settings) == 56, "vg_settings");

enum { VG_SET_UNIX = 1 /* unix sockets by the list only */ };

/* What of ours is in a network namespace beside our own. */
enum { VG_SERVED_RELAY = 1, VG_SERVED_QUEUE = 2 };

#endif
