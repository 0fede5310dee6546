// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Where the kernel takes LSM programs: what the cgroup hooks cannot see, refused before it is done.
 *
 *   file_receive, socket_sendmsg     sockets from outside, see foreign.h
 *   socket_create                    families that pass no cgroup hook: packet, vsock, XDP ...
 *   unix_stream_connect, unix_may_send   with `unix:`, the socket that was found: one of the slice, or on the list by inode
 *
 * Nothing here loosens what another program or module refused: `ret` is handed on.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "vendorgate.h"
#include "foreign.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { EPERM_ = 1, EACCES_ = 13, EAFNOSUPPORT_ = 97, FORMAT = 0170000, SOCKET_FILE = 0140000 };

/* (device, inode) of the files of the list's sockets; user space keeps it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_UNIX);
	__type(key, struct vg_inode);
	__type(value, __u32);
} unix_inodes SEC(".maps");

static __always_inline struct vg_settings *set_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

SEC("lsm/file_receive")
int BPF_PROG(vg_lsm_receive, struct file *file, int ret)
{
	struct socket *socket;

	if (ret || (BPF_CORE_READ(file, f_inode, i_mode) & FORMAT) != SOCKET_FILE)
		return ret;
	if (bpf_current_task_under_cgroup(&governed, 0) != 1)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(socket, sk);
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	struct vg_settings *set = set_of();

	if (family == UNIX || family == NETLINK || (set && below(BPF_CORE_READ(sk, sk_cgrp_data.cgroup), set->slice)))
		return 0;
	bump(VG_REFUSE_FOREIGN);
	return -EACCES_;
}

SEC("lsm/socket_sendmsg")
int BPF_PROG(vg_lsm_sendmsg, struct socket *sock, struct msghdr *msg, int size, int ret)
{
	struct sock *sk = sock->sk;
	__u32 why;

	if (ret || !sk)
		return ret;
	why = past_the_fence(sk);
	if (!why)
		return 0;
	bump(why);
	return -EPERM_;
}

SEC("lsm/socket_create")
int BPF_PROG(vg_lsm_create, int family, int type, int protocol, int kern, int ret)
{
	if (ret || kern || family == INET || family == INET6 || family == UNIX || family == NETLINK || family == ALG)
		return ret;
	if (bpf_current_task_under_cgroup(&governed, 0) != 1)
		return 0;
	bump(VG_REFUSE_FAMILY);
	return -EAFNOSUPPORT_;
}

/* The id of the vendor of the process that runs this, as in inside.h. */
static __always_inline __u64 current_vendor(__u64 slice)
{
	for (int i = 0; i < VG_LEVELS; i++)
		if (bpf_get_current_ancestor_cgroup_id(i) == slice)
			return bpf_get_current_ancestor_cgroup_id(i + 1) ?: slice;
	return 0;
}

/* True when a governed process may not speak to this socket. */
static __always_inline bool unlisted(struct sock *other)
{
	struct vg_settings *set = set_of();
	struct vg_inode key = {};
	struct inode *inode;

	if (bpf_current_task_under_cgroup(&governed, 0) != 1)
		return false;
	if (!set)
		return true;
	if (!(set->flags & VG_SET_UNIX) || below(BPF_CORE_READ(other, sk_cgrp_data.cgroup), current_vendor(set->slice)))
		return false;
	inode = BPF_CORE_READ((struct unix_sock *)other, path.dentry, d_inode);
	if (!inode) /* an abstract name is what it says: unix.bpf.c has looked at it */
		return false;
	key.device = BPF_CORE_READ(inode, i_sb, s_dev);
	key.inode = BPF_CORE_READ(inode, i_ino);
	return !bpf_map_lookup_elem(&unix_inodes, &key);
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(vg_lsm_unix_connect, struct sock *sock, struct sock *other, struct sock *newsk, int ret)
{
	if (ret || !unlisted(other))
		return ret;
	bump(VG_REFUSE_UNIX);
	return -EACCES_;
}

SEC("lsm/unix_may_send")
int BPF_PROG(vg_lsm_unix_send, struct socket *sock, struct socket *other, int ret)
{
	if (ret || !unlisted(other->sk))
		return ret;
	bump(VG_REFUSE_UNIX);
	return -EACCES_;
}
