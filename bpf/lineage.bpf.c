// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Who runs what, copied at exec: tgid -> {start, executable, argv, parents}.
 *
 * An entry is filled in place only by the process it is about, inside its own execve, when its other threads are
 * gone. connect() runs in a thread of that process, so the fence never reads an entry that is being written. A fork
 * copies the parent's entry before the child can run. Entries go when the last thread exits, before the pid is free.
 *
 * The executable's path is walked over dentries and mounts here: bpf_d_path is not for tracepoints, bprm->filename
 * is what the caller wrote (relative, or /dev/fd/7), and /proc afterwards may speak of another program.
 *
 * Processes older than these programs are taken in by the task iterator once, after the programs are attached and
 * without touching entries that exist (BPF_NOEXIST). Their argv and parents are what they are then, and VG_FLAG_SEEDED
 * says so. It is run until parents are in before their children, and once more for those whose parent never is.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "vendorgate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define WORK (2 * VG_EXE) /* bytes of scratch that path_of may touch, as the verifier counts them */
_Static_assert(VG_ARGV >= WORK, "argv is the scratch of path_of");
_Static_assert(VG_EXE == 256, "path_of masks with 255");


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

/* Work space of the iterator; user space holds the instance's lock while it runs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vg_process);
} seed SEC(".maps");

static const struct vg_process blank = {.flags = VG_FLAG_PARENTS_CUT};

volatile __u32 seed_all; /* 1: also those whose parent has no entry */

static __always_inline void count(__u32 reason)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &reason);

	if (value)
		(*value)++;
}

/* The mask must be in the code the verifier sees; clang drops it when it can prove it idle. */
#define BOUND(x) asm volatile("%0 &= 255" : "+r"(x))

/* Write `word` before work[off]; return the new start, or 0 when there is no room. */
static __always_inline __u64 before(char *work, __u64 off, const char *word, __u32 len)
{
	if (off < len + 1)
		return 0;
	off -= len;
	BOUND(off);
	bpf_probe_read_kernel(work + off, len, word);
	return off;
}

/* Write the absolute path of `file` to `out`, "" if it cannot be told whole. `work` is WORK bytes of scratch. */
static __always_inline void path_of(struct file *file, char *work, char *out)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *vfs = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = container_of(vfs, struct mount, mnt);
	struct mnt_namespace *ns = BPF_CORE_READ(mount, mnt_ns);
	bool deleted = !BPF_CORE_READ(dentry, d_hash.pprev);
	bool pseudo = false, whole = false;
	__u64 off = VG_EXE;

	out[0] = 0;
	for (int i = 0; i < VG_DEPTH; i++) {
		struct dentry *root = BPF_CORE_READ(mount, mnt.mnt_root);
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry == root) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount) {
				whole = true;
				break;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		__u64 len = BPF_CORE_READ(dentry, d_name.len);
		const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);

		if (len == 0 || len >= VG_EXE || off < len + 2)
			return;
		off -= len;
		BOUND(off);
		BOUND(len);
		if (bpf_probe_read_kernel(work + off, len, name))
			return;
		if (parent == dentry) { /* no tree at all: a memfd, whose name says so */
			pseudo = whole = true;
			break;
		}
		off--;
		BOUND(off);
		work[off] = '/';
		dentry = parent;
	}
	if (!whole || off >= VG_EXE)
		return;
	if (!pseudo) {
		/* A mount made in a user namespace shows whatever path its maker likes. */
		if (!ns || (unsigned long)ns >= (unsigned long)-4095)
			off = before(work, off, "detached:", 9);
		else if (BPF_CORE_READ(ns, user_ns, level) > 0)
			off = before(work, off, "userns:", 7);
		else if (deleted)
			off = before(work, off, "deleted:", 8);
	}
	if (off == 0 || off >= VG_EXE)
		return;
	__u64 len = VG_EXE - off;

	BOUND(off);
	BOUND(len);
	if (bpf_probe_read_kernel(out, len, work + off))
		len = 0;
	out[len] = 0;
}

/* Fill what exec decides, but argv. */
static __always_inline void fill(struct vg_process *p, struct task_struct *task, struct file *file)
{
	p->started = BPF_CORE_READ(task, group_leader, start_boottime);
	p->pid = BPF_CORE_READ(task, tgid);
	p->ppid = BPF_CORE_READ(task, real_parent, tgid);
	p->uid = BPF_CORE_READ(task, real_cred, uid.val);
	p->inode = BPF_CORE_READ(file, f_inode, i_ino);
	p->device = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	p->flags &= VG_FLAG_PARENTS_CUT;
	p->argv_len = 0;
	p->exe[0] = 0;
	if (file)
		path_of(file, p->argv, p->exe);
}

/* Put the parent's executable before its own parents. */
static __always_inline void descend(struct vg_process *p, struct vg_process *parent)
{
	long first = bpf_probe_read_kernel_str(p->parents, VG_EXE, parent->exe);
	__u64 len = parent->parents_len;

	p->parents_len = 0;
	p->flags |= VG_FLAG_PARENTS_CUT;
	if (first < 1 || first > VG_EXE)
		return;
	p->parents_len = first;
	if (len <= VG_PARENTS - VG_EXE)
		p->flags = (p->flags & ~VG_FLAG_PARENTS_CUT) | (parent->flags & VG_FLAG_PARENTS_CUT);
	else
		len = VG_PARENTS - VG_EXE;
	if (bpf_probe_read_kernel(p->parents + first, len, parent->parents))
		p->flags |= VG_FLAG_PARENTS_CUT;
	else
		p->parents_len = first + len;
}

/* Return how many bytes of argv to read, at most VG_ARGV, and flag what is cut. */
static __always_inline __u32 argv_size(struct vg_process *p, unsigned long start, unsigned long end)
{
	if (end <= start)
		return 0;
	if (end - start <= VG_ARGV)
		return end - start;
	p->flags |= VG_FLAG_ARGV_CUT;
	return VG_ARGV;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(vg_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	__u32 tgid = task->tgid;
	struct vg_process *p = bpf_map_lookup_elem(&lineage, &tgid);

	if (!p) {
		bpf_map_update_elem(&lineage, &tgid, &blank, BPF_NOEXIST);
		p = bpf_map_lookup_elem(&lineage, &tgid);
		if (!p) {
			count(VG_LOST_PROCESS);
			return 0;
		}
	}
	fill(p, task, BPF_CORE_READ(bprm, file));
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u32 size = argv_size(p, start, BPF_CORE_READ(task, mm, arg_end));

	if (size > VG_ARGV || bpf_probe_read_user(p->argv, size, (void *)start))
		p->flags |= VG_FLAG_ARGV_UNKNOWN;
	else
		p->argv_len = size;
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(vg_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = parent->tgid, tgid = child->tgid;

	if (child->pid != child->tgid) /* a thread */
		return 0;
	struct vg_process *old = bpf_map_lookup_elem(&lineage, &from);

	if (!old)
		return 0;
	if (bpf_map_update_elem(&lineage, &tgid, old, BPF_ANY)) {
		count(VG_LOST_PROCESS);
		return 0;
	}
	struct vg_process *p = bpf_map_lookup_elem(&lineage, &tgid);

	if (!p)
		return 0;
	p->started = child->start_boottime;
	p->pid = tgid;
	p->ppid = BPF_CORE_READ(child, real_parent, tgid);
	descend(p, old);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(vg_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid;

	/* `live` counts the threads that have not begun to exit; this one has. */
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		bpf_map_delete_elem(&lineage, &tgid);
	return 0;
}

SEC("iter.s/task")
int vg_seed(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 zero = 0;

	if (!task || task->pid != task->tgid)
		return 0;
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct vg_process *p = bpf_map_lookup_elem(&seed, &zero);
	__u32 tgid = task->tgid;

	if (!BPF_CORE_READ(task, mm) || !p) /* a kernel thread, or a process that is ending */
		return 0;
	__u32 above = BPF_CORE_READ(task, real_parent, tgid);
	struct vg_process *parent = bpf_map_lookup_elem(&lineage, &above);

	if (!parent && above && !seed_all)
		return 0;
	bpf_probe_read_kernel(p, sizeof(*p), &blank);
	if (parent)
		descend(p, parent);
	else if (!above) /* the first process */
		p->flags = 0;
	fill(p, task, file);
	p->flags |= VG_FLAG_SEEDED;
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u32 size = argv_size(p, start, BPF_CORE_READ(task, mm, arg_end));

	if (size == 0 || size > VG_ARGV || bpf_copy_from_user_task(p->argv, size, (void *)start, task, 0))
		p->flags |= VG_FLAG_ARGV_UNKNOWN;
	else
		p->argv_len = size;
	if (bpf_map_update_elem(&lineage, &tgid, p, BPF_NOEXIST) == -7 /* E2BIG */)
		count(VG_LOST_PROCESS);
	return 0;
}
