// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* `unix:` of the settings: the unix sockets that governed processes may speak to, and no others. Of linux 6.7.
 *
 * The hook sees the address as the process wrote it. The same socket has many: relative ones, by way of /proc/self/root,
 * by way of links. So this is a list of what is let by, each in one form, and all other forms are refused. That form
 * means what it says only where the process did not choose what it means: in mounts made outside user namespaces, by
 * a process that is in none itself (there chroot(2) is for everybody). Elsewhere, only abstract names are looked at.
 *
 * What remains: who may write to a directory of the list may put a link there. Where the kernel takes lsm.bpf.c, the
 * socket that was found is looked at too.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vendorgate.h"
#include "lineage.h"
#include "ledger.h"
#include "judge.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

extern void *bpf_cast_to_kern_ctx(void *) __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_UNIX);
	__type(key, struct vg_unix);
	__type(value, __u32);
} unix_allowed SEC(".maps");

/* True when nobody unprivileged made what paths mean to this process. */
static __always_inline bool honest_paths(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, cred, user_ns, level) == 0 && BPF_CORE_READ(task, nsproxy, mnt_ns, user_ns, level) == 0;
}

static __always_inline bool climbs(const char *path)
{
	for (int i = 0; i < 105; i++)
		if (path[i] == '/' && path[i + 1] == '.' && path[i + 2] == '.')
			return true;
	return false;
}

static __always_inline int speak(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct vg_settings *set = current_settings();
	struct vg_unix key = {.length = 8 * (sizeof(key) - sizeof(key.length))};
	const char *path = (void *)kern->uaddr + sizeof(__u16);
	__u64 length = kern->uaddrlen, size = length - sizeof(__u16);

	if (!set)
		return refuse(VG_REFUSE_UNIX, REFUSED);
	if (!(set->flags & VG_SET_UNIX) || length <= sizeof(__u16))
		return 1;
	asm volatile("" : "+r"(size)); /* what is checked must be what is used */
	if (size > sizeof(key.path) || bpf_probe_read_kernel(key.path, 1, path))
		return refuse(VG_REFUSE_UNIX, REFUSED);
	if (!key.path[0]) {
		key.abstract = 1;
		key.size = size;
		if (bpf_probe_read_kernel(key.path, size, path))
			return refuse(VG_REFUSE_UNIX, REFUSED);
	} else if (!honest_paths() || bpf_probe_read_kernel_str(key.path, size, path) < 0) {
		return refuse(VG_REFUSE_UNIX, REFUSED);
	}
	if (key.path[0] && climbs(key.path))
		return refuse(VG_REFUSE_UNIX, REFUSED);
	return bpf_map_lookup_elem(&unix_allowed, &key) ? 1 : refuse(VG_REFUSE_UNIX, REFUSED);
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
