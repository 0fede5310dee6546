// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The plaintext that processes hand to OpenSSL and get from it, for `vendorgate observe`. Loaded for one observation and
 * never pinned; it lets everything by. A probe is on a file, so each process that runs it traps, and the filter is here:
 * the cgroups of `watched` and all below them, and one process of them where `only` names it.
 *
 * A call is taken down when it returns: what was read is there only then, and what was not written is not shown.
 * Source: SSL_read(3ssl), SSL_write(3ssl) of OpenSSL 3.0; the same names and arguments in BoringSSL and LibreSSL.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "vendorgate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define COPIED 16384	  /* bytes of one call: a TLS record. More is told as a number */
#define SMALL 256	  /* room in the ring is taken by these sizes, since it has to be known beforehand */
#define MIDDLE 2048
#define RING (4 << 20)	  /* bytes: 250 calls of the longest that were not taken yet */
#define CALLS 16384	  /* threads inside a call */
#define WATCHED 4096	  /* cgroups; as VG_SCOPES */

enum function { WRITE = 0, READ = 1, WRITE_EX = 2, READ_EX = 3 };
enum lost { LOST_RING = 0, LOST_CALL = 1, LOST_KINDS = 2 };

struct plain {
	__u64 when;	  /* ns since boot */
	__u64 connection; /* address of the SSL object in the process */
	__u64 size;	  /* bytes of the call */
	__u32 pid;
	__u32 copied;	  /* less than `size`: the rest is not here, or could not be read */
	__u32 sent;
	__u32 zero;
	char name[16];
};
_Static_assert(sizeof(struct plain) == 56, "plain");

struct inside {
	__u64 thread;
	__u64 function;
};

struct call {
	__u64 connection;
	__u64 buffer;
	__u64 count; /* address of the number that the _ex functions return */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WATCHED);
	__type(key, __u64);
	__type(value, __u32);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} only SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CALLS);
	__type(key, struct inside);
	__type(value, struct call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOST_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING);
} plains SEC(".maps");

static __always_inline void lose(__u32 kind)
{
	__u64 *value = bpf_map_lookup_elem(&lost, &kind);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline bool is_watched(void)
{
	__u32 zero = 0, *pid = bpf_map_lookup_elem(&only, &zero);

	if (!pid || (*pid && *pid != bpf_get_current_pid_tgid() >> 32))
		return false;
	for (int level = 0; level < VG_LEVELS; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);

		if (!id)
			break;
		if (bpf_map_lookup_elem(&watched, &id))
			return true;
	}
	return false;
}

static __always_inline int enter(__u64 function, void *ssl, const void *buffer, void *count)
{
	struct inside key = {.thread = bpf_get_current_pid_tgid(), .function = function};
	struct call call = {.connection = (__u64)ssl, .buffer = (__u64)buffer, .count = (__u64)count};

	if (is_watched() && bpf_map_update_elem(&calls, &key, &call, BPF_ANY))
		lose(LOST_CALL);
	return 0;
}

static __always_inline void give(const struct call *call, __u64 size, __u32 sent, const __u32 room)
{
	struct plain *plain = bpf_ringbuf_reserve(&plains, sizeof(*plain) + room, 0);
	__u64 copied = size < room ? size : room;

	if (!plain) {
		lose(LOST_RING);
		return;
	}
	plain->when = bpf_ktime_get_boot_ns();
	plain->connection = call->connection;
	plain->size = size;
	plain->pid = bpf_get_current_pid_tgid() >> 32;
	plain->sent = sent;
	plain->zero = 0;
	bpf_get_current_comm(plain->name, sizeof(plain->name));
	asm volatile("" : "+r"(copied)); /* or the compiler drops the line below, and the verifier knows no bound */
	if (copied > room)
		copied = room;
	plain->copied = bpf_probe_read_user(plain + 1, copied, (void *)call->buffer) ? 0 : copied;
	bpf_ringbuf_submit(plain, 0);
}

static __always_inline int leave(__u64 function, int result)
{
	struct inside key = {.thread = bpf_get_current_pid_tgid(), .function = function};
	struct call *found = bpf_map_lookup_elem(&calls, &key), call;
	__u32 sent = function == WRITE || function == WRITE_EX;
	__u64 size = result;

	if (!found)
		return 0;
	call = *found;
	bpf_map_delete_elem(&calls, &key);
	if (result <= 0)
		return 0;
	if (function >= WRITE_EX && bpf_probe_read_user(&size, sizeof(size), (void *)call.count))
		return 0;
	if (size <= SMALL)
		give(&call, size, sent, SMALL);
	else if (size <= MIDDLE)
		give(&call, size, sent, MIDDLE);
	else
		give(&call, size, sent, COPIED);
	return 0;
}

SEC("uprobe")
int BPF_KPROBE(vg_write, void *ssl, const void *buffer)
{
	return enter(WRITE, ssl, buffer, NULL);
}

SEC("uprobe")
int BPF_KPROBE(vg_read, void *ssl, const void *buffer)
{
	return enter(READ, ssl, buffer, NULL);
}

SEC("uprobe")
int BPF_KPROBE(vg_write_ex, void *ssl, const void *buffer, __u64 size, void *count)
{
	return enter(WRITE_EX, ssl, buffer, count);
}

SEC("uprobe")
int BPF_KPROBE(vg_read_ex, void *ssl, const void *buffer, __u64 size, void *count)
{
	return enter(READ_EX, ssl, buffer, count);
}

SEC("uretprobe")
int BPF_KRETPROBE(vg_wrote, int result)
{
	return leave(WRITE, result);
}

SEC("uretprobe")
int BPF_KRETPROBE(vg_had, int result)
{
	return leave(READ, result);
}

SEC("uretprobe")
int BPF_KRETPROBE(vg_wrote_ex, int result)
{
	return leave(WRITE_EX, result);
}

SEC("uretprobe")
int BPF_KRETPROBE(vg_had_ex, int result)
{
	return leave(READ_EX, result);
}
