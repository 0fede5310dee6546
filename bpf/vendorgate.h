/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The values that the kernel side and appliance/kernel/layout.py share. Every struct is laid out without holes,
 * its size is asserted here, and a test compares it with Python's. Addresses and ports are in network order;
 * an IPv4 address is in the first four bytes and the rest are zero. A mapped address is written as IPv4.
 */
#ifndef VENDORGATE_H
#define VENDORGATE_H

#define VG_LAYOUT 2		  /* raise when a struct or a map below changes shape */
#define VG_STEER_MARK 0x56470001 /* "VG", 1. nftables redirects it; the fence never looks at it */

#define VG_EXE 256	   /* bytes with the NUL; a longer path is recorded as unknown, never cut */
#define VG_ARGV 1024	   /* bytes; a longer command line is cut and flagged */
#define VG_PARENTS 1024	   /* bytes; about fifty executables, what is beyond is flagged */
#define VG_DEPTH 48	   /* path components and mounts walked for one executable */
#define VG_RANGES 64	   /* port ranges of one prefix; Python writes `inspect` for what is beyond */
#define VG_PEERS 4096	   /* flows from handshake to accept: twice what all listen queues of the relay hold */
#define VG_RATE 1000	   /* flows a second that one cgroup may open; a relay of one core takes about this many */
#define VG_PROCESSES 65536 /* two times the default pid_max of 32768 */
#define VG_SCOPES 4096	   /* cgroups below the slice */
#define VG_PREFIXES 65536

/* What the rules say of a destination. INSPECT is what is said when nothing matches. */
enum vg_judgement { VG_JUDGE_INSPECT = 0, VG_JUDGE_DENY = 1, VG_JUDGE_DIRECT = 2 };

/* What the fence keeps on a TCP socket. */
enum vg_verdict { VG_NONE = 0, VG_INSPECT = 1, VG_DIRECT = 2, VG_TOLD = 3 /* inspect, and in `peers` */ };

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
	VG_REFUSE_RATE,	     /* one cgroup opens too many flows a second */
	VG_REASONS
};

enum { VG_FLAG_ARGV_CUT = 1, VG_FLAG_ARGV_UNKNOWN = 2, VG_FLAG_SEEDED = 4, VG_FLAG_PARENTS_CUT = 8 };

/* One process, copied at exec. `exe` is "" when unknown; one that cannot be trusted to be what its path says
 * starts with a class instead of a slash: "deleted:", "memfd:", "userns:" (on a mount made in a user namespace),
 * "detached:".
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
	char exe[VG_EXE];
	char argv[VG_ARGV]; /* NUL between the words */
	__u32 parents_len;
	__u32 zero;
	char parents[VG_PARENTS]; /* executables as they were at fork, nearest first, NUL after each */
};
_Static_assert(sizeof(struct vg_process) == 2352, "vg_process");

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
	__u32 uid;    /* at connect; process.uid is that at exec */
	__u32 pid;
	struct vg_address to;
	struct vg_process process;
};
_Static_assert(sizeof(struct vg_flow) == 2416, "vg_flow");

/* Kept on each governed TCP socket. */
struct vg_socket {
	__u32 verdict;
	__u32 revision;
	struct vg_flow flow;
};
_Static_assert(sizeof(struct vg_socket) == 2424, "vg_socket");

/* How the relay finds a flow: the source of its packets as they left, after NAT. */
struct vg_peer {
	__u64 netns;
	__u8 ip[16];
	__u16 port;
	__u16 family;
	__u32 zero;
};
_Static_assert(sizeof(struct vg_peer) == 32, "vg_peer");

/* How many flows a cgroup opened in this second. */
struct vg_opened {
	__u64 second;
	__u64 count;
};
_Static_assert(sizeof(struct vg_opened) == 16, "vg_opened");

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
	__u32 layout;
	__u32 relay_port; /* host order; 0: no relay, nothing to inspect passes */
	__u32 revision;	  /* of the judge map */
	__u32 unknown_scope; /* for cgroups not in the scope map; holds no `direct` */
};
_Static_assert(sizeof(struct vg_settings) == 32, "vg_settings");

#endif
