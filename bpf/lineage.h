/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps that lineage.bpf.c fills and fence.bpf.c reads, and how user space is told of an image. */
#ifndef VENDORGATE_LINEAGE_H
#define VENDORGATE_LINEAGE_H

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_PROCESSES);
	__type(key, __u32);
	__type(value, struct vg_process);
} lineage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VG_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Written by user space (kernel/images.py). Kept over its restarts: what was true at exec cannot be found out later. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, VG_IMAGES);
	__type(key, struct vg_image_key);
	__type(value, struct vg_image);
} images SEC(".maps");

/* Socket cookie -> what its holder became by exec. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, VG_CARRIED);
	__type(key, __u64);
	__type(value, struct vg_process);
} carried SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, VG_EVENTS);
} events SEC(".maps");

static __always_inline void bump_by(__u32 reason, __u64 number)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &reason);

	if (value)
		__sync_fetch_and_add(value, number);
}

static __always_inline void bump(__u32 reason)
{
	bump_by(reason, 1);
}

static __always_inline void tell(struct vg_process *p, __u32 kind, __u64 cookie)
{
	struct vg_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		bump(VG_LOST_EVENT);
		return;
	}
	event->kind = kind;
	event->zero = 0;
	event->cookie = cookie;
	bpf_probe_read_kernel(event->front, sizeof(event->front), p);
	bpf_ringbuf_submit(event, 0);
}

/* A process connects: an exec after this may hand its socket on; and what it is has to be found out now, if nobody did. */
static __always_inline void connects(struct vg_process *p)
{
	struct vg_image_key key = {.executed = p->executed, .execer = p->execer};

	p->flags |= VG_FLAG_CONNECTED;
	if (!bpf_map_lookup_elem(&images, &key))
		tell(p, VG_EVENT_CONNECT, 0);
}

#endif
