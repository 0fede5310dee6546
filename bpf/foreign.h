/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Sockets that were opened outside the slice and came into it: inherited, or handed in over a unix socket. No hook of
 * the slice sees what is done with them, since those go by the socket's cgroup, which is that of who opened it. Shared
 * by foreign.bpf.c, handed.bpf.c and lsm.bpf.c.
 */
#ifndef VENDORGATE_FOREIGN_H
#define VENDORGATE_FOREIGN_H

enum { UNIX = 1, INET = 2, INET6 = 10, NETLINK = 16, ALG = 38 /* ciphers, no network */ };

/* The slice, filled by user space before the programs are attached. */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} governed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vg_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VG_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void bump(__u32 reason)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &reason);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* True when the cgroup is the slice or below it. */
static __always_inline bool below(struct cgroup *cgroup, __u64 slice)
{
	for (int i = 0; i < VG_LEVELS && cgroup; i++) {
		if (BPF_CORE_READ(cgroup, kn, id) == slice)
			return true;
		struct cgroup_subsys_state *above = BPF_CORE_READ(cgroup, self.parent);

		cgroup = above ? container_of(above, struct cgroup, self) : NULL;
	}
	return false;
}

/* Why a process may not send over this socket; 0 when it may: it is not governed, or the fence's own hooks see the socket.
 * Those of unix are how a service manager gives a service its journal; they have a rule of their own.
 */
static __always_inline __u32 past_the_fence(struct sock *sk)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *theirs = sk->sk_cgrp_data.cgroup;
	__u16 family = sk->__sk_common.skc_family;
	bool inet = family == INET || family == INET6;
	struct vg_settings *set;
	__u32 zero = 0;

	if (inet && theirs == task->cgroups->dfl_cgrp) /* nearly always, and for nearly everybody on the host */
		return 0;
	if (family == UNIX || family == NETLINK || family == ALG || bpf_current_task_under_cgroup(&governed, 0) != 1)
		return 0;
	if (!inet)
		return VG_REFUSE_FAMILY;
	set = bpf_map_lookup_elem(&settings, &zero);
	return set && below(theirs, set->slice) ? 0 : VG_REFUSE_FOREIGN;
}

#endif
