// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Unix sockets: governed processes may speak to those of their own vendor, and to those on the list that `unix:` of the
 * settings gives. Whoever else listens on this host could act for them, or lend them a connection. Of linux 6.7.
 *
 * The hook sees the address as the process wrote it, and the same socket has many: relative ones, by way of
 * /proc/self/root, by way of links. So only one form is let by, the absolute path without links or dots; all others
 * are refused. It means what it says only where the process did not choose what it means: in the mounts of a
 * namespace made outside user namespaces, by a process that is in none itself (there chroot(2) is for everybody).
 *
 * The vendor's own are found among all bound sockets: of the network namespace by abstract name, of the mount namespace
 * by where their file is now. What remains: between this and the lookup of the path, the vendor may change what is there
 * (a race that it has to win, and a file it has to own). Where the kernel takes lsm.bpf.c, the socket that was found
 * is looked at too, and nothing remains.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vendorgate.h"
#include "lineage.h"
#include "ledger.h"
#include "judge.h"
#include "path.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

extern void *bpf_cast_to_kern_ctx(void *) __ksym;

#define BUCKETS 256 /* net/unix/af_unix.c, UNIX_HASH_SIZE / 2: first those by file and the unbound, then the abstract */
#define STEPS 16384 /* buckets and sockets looked at; on a host with more, the vendor's own may be refused */
#define WORDS 14    /* 112 bytes: a name has 108 at most */

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_UNIX);
	__type(key, struct vg_unix);
	__type(value, __u32);
} unix_allowed SEC(".maps");

/* Scratch. On the socket, which is locked: on a processor, another program could run in between. */
struct search {
	struct vg_unix key;
	__u32 bucket, end;
	__u64 buckets; /* addresses in the kernel */
	__u64 node;
	__u64 mounts;
	__u64 vendor;
	__u32 size;
	__u32 found;
	__u64 wanted[WORDS], there[WORDS];
	char work[WORK];
	char path[VG_EXE];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct search);
} searches SEC(".maps");

/* True when nobody unprivileged made what paths mean to this process, and its root is that of its mounts. */
static __always_inline bool honest_paths(struct task_struct *task)
{
	struct vfsmount *mnt = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *mount = container_of(mnt, struct mount, mnt), *above = BPF_CORE_READ(mount, mnt_parent);

	if (BPF_CORE_READ(task, cred, user_ns, level) || BPF_CORE_READ(task, nsproxy, mnt_ns, user_ns, level))
		return false;
	if (BPF_CORE_READ(task, fs, root.dentry) != BPF_CORE_READ(mnt, mnt_root))
		return false;
	return above == mount || BPF_CORE_READ(mount, mnt_mountpoint) == BPF_CORE_READ(above, mnt.mnt_root);
}

static __always_inline bool climbs(const char *path)
{
	for (int i = 0; i < 105; i++)
		if (path[i] == '/' && path[i + 1] == '.' && path[i + 2] == '.')
			return true;
	return false;
}

/* The id of the vendor of the process that runs this, as in inside.h. */
static __always_inline __u64 current_vendor(__u64 slice)
{
	for (int i = 0; i < VG_LEVELS; i++)
		if (bpf_get_current_ancestor_cgroup_id(i) == slice)
			return bpf_get_current_ancestor_cgroup_id(i + 1) ?: slice;
	return 0;
}

static __always_inline bool below(struct cgroup *cgroup, __u64 top)
{
	for (int i = 0; i < VG_LEVELS && cgroup; i++) {
		if (BPF_CORE_READ(cgroup, kn, id) == top)
			return true;
		struct cgroup_subsys_state *above = BPF_CORE_READ(cgroup, self.parent);

		cgroup = above ? container_of(above, struct cgroup, self) : NULL;
	}
	return false;
}

static __always_inline bool same(struct search *search)
{
	for (int i = 0; i < WORDS; i++)
		if (search->wanted[i] != search->there[i])
			return false;
	return true;
}

/* True when this bound socket, an address in the kernel, is one of the vendor's and the one that is looked for. Global,
 * so that the verifier looks through it once.
 */
__noinline int is_it(struct search *search, __u64 at)
{
	struct unix_sock *sk = (void *)at;
	struct unix_address *address = BPF_CORE_READ(sk, addr);
	__u32 size = BPF_CORE_READ(address, len);

	if (!search || !address || !below(BPF_CORE_READ(sk, sk.sk_cgrp_data.cgroup), search->vendor))
		return false;
	__builtin_memset(search->there, 0, sizeof(search->there));
	if (search->key.abstract) {
		if (size != search->size + sizeof(__u16) || size > sizeof(search->key.path) + sizeof(__u16) || size < 2)
			return false;
		bpf_probe_read_kernel(search->there, sizeof(search->key.path), (void *)address->name[0].sun_path);
		/* What lies behind the name is not of it. */
		for (__u32 i = 0; i < sizeof(search->key.path); i++)
			if (i >= search->size)
				((char *)search->there)[i] = 0;
		return same(search);
	}
	struct vfsmount *mnt = BPF_CORE_READ(sk, path.mnt);
	struct dentry *dentry = BPF_CORE_READ(sk, path.dentry);

	if (!dentry || (__u64)BPF_CORE_READ(container_of(mnt, struct mount, mnt), mnt_ns) != search->mounts)
		return false;
	path_of(dentry, mnt, search->work, search->path);
	/* More than a name has: a longer path must not be cut to one. */
	return bpf_probe_read_kernel_str(search->there, sizeof(search->there), search->path) > 0 && same(search);
}

static long step(__u32 i, struct search **at)
{
	struct search *search = *at;
	struct hlist_node *node = (void *)search->node;

	if (!node) {
		if (search->bucket >= search->end)
			return 1;
		bpf_probe_read_kernel(&search->node, sizeof(search->node), (void *)(search->buckets + 8 * search->bucket));
		search->bucket++;
		return 0;
	}
	search->node = (__u64)BPF_CORE_READ(node, next);
	search->found = is_it(search, (__u64)container_of(node, struct sock, __sk_common.skc_node));
	return search->found ? 1 : 0;
}

/* True when the address names a socket that the vendor of this process bound. */
static __always_inline bool own(struct search *search, struct task_struct *task, struct sock *sk, __u64 slice)
{
	__builtin_memset(search->wanted, 0, sizeof(search->wanted));
	__builtin_memcpy(search->wanted, search->key.path, sizeof(search->key.path));
	search->buckets = (__u64)BPF_CORE_READ(sk, __sk_common.skc_net.net, unx.table.buckets);
	search->bucket = search->key.abstract ? BUCKETS : 0;
	search->end = search->bucket + BUCKETS;
	search->node = 0;
	search->found = 0;
	search->mounts = (__u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
	search->vendor = current_vendor(slice);
	if (search->vendor)
		bpf_loop(STEPS, step, &search, 0);
	return search->found;
}

static __always_inline int speak(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct task_struct *task = (void *)bpf_get_current_task();
	struct vg_settings *set = current_settings();
	const char *path = (void *)kern->uaddr + sizeof(__u16);
	__u64 length = kern->uaddrlen, size = length - sizeof(__u16);
	struct search *search;

	if (!set || !ctx->sk)
		return refuse(VG_REFUSE_UNIX, REFUSED);
	if (!(set->flags & VG_SET_UNIX) || length <= sizeof(__u16))
		return 1;
	search = bpf_sk_storage_get(&searches, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	asm volatile("" : "+r"(size)); /* what is checked must be what is used */
	if (!search || size > sizeof(search->key.path) || size == 0)
		return refuse(VG_REFUSE_UNIX, REFUSED);
	__builtin_memset(&search->key, 0, sizeof(search->key));
	search->key.length = 8 * (sizeof(search->key) - sizeof(search->key.length));
	search->size = size;
	if (bpf_probe_read_kernel(search->key.path, 1, path))
		return refuse(VG_REFUSE_UNIX, REFUSED);
	if (!search->key.path[0]) {
		search->key.abstract = 1;
		search->key.size = size;
		if (bpf_probe_read_kernel(search->key.path, size, path))
			return refuse(VG_REFUSE_UNIX, REFUSED);
	} else if (!honest_paths(task) || bpf_probe_read_kernel_str(search->key.path, size + 1, path) < 0 ||
		   climbs(search->key.path)) {
		/* One more than there are: a path may end without a NUL. That of the longest is `zero`. */
		return refuse(VG_REFUSE_UNIX, REFUSED);
	}
	if (bpf_map_lookup_elem(&unix_allowed, &search->key) || own(search, task, kern->sk, set->slice))
		return 1;
	return refuse(VG_REFUSE_UNIX, REFUSED);
}

/* libbpf 1.1 has no name for these hooks; the loader sets their attach types, 49 and 50. */
SEC("cgroup/connect4")
int vg_unix_connect(struct bpf_sock_addr *ctx)
{
	return speak(ctx);
}

SEC("cgroup/connect4")
int vg_unix_sendmsg(struct bpf_sock_addr *ctx)
{
	return speak(ctx);
}
