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
 * says so. It is run until parents are in before their children. The iterator walks the pid namespace of its caller;
 * ancestors outside it (a container's own) are climbed to by the kernel's pointers.
 *
 * An exec in the slice is told to user space, which finds out what takes files to know: digest, package, script. So is
 * a socket that outlives it: who holds a flow is then not what opened it.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "vendorgate.h"
#include "lineage.h"
#include "path.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

_Static_assert(VG_ARGV >= WORK, "argv is the scratch of path_of");
_Static_assert(VG_CWD == VG_EXE, "both are written by path_of");

enum {
	KERNEL_THREAD = 0x00200000, /* PF_KTHREAD */
	FILE_TYPE = 0170000,
	SOCKET_FILE = 0140000,
	STREAM = 1,
	INET = 2,
	INET6 = 10,
	LEVELS = 32, /* ancestors climbed to, of a process whose parent is not known */
};


/* The slice: what happens outside it is copied, and told to nobody. */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} governed SEC(".maps");

/* Work space of the iterator; user space holds the instance's lock while it runs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vg_process);
} seed SEC(".maps");

static const struct vg_process blank = {.flags = VG_FLAG_PARENTS_CUT};

/* 0: those whose parent is in. 1: of the others, the topmost ancestor that is not. 2: all that is left, and their
 * line of descent is cut.
 */
volatile __u32 seed_mode;
volatile __u32 seed_missing; /* processes that this run had to leave out */

/* The inode's time of change had three shapes. The newest keeps a flag in the highest bit of the nanoseconds. */
struct inode___named {
	time64_t i_ctime_sec;
	__u32 i_ctime_nsec;
} __attribute__((preserve_access_index));
struct inode___underscored {
	struct timespec64 __i_ctime;
} __attribute__((preserve_access_index));
struct inode___plain {
	struct timespec64 i_ctime;
} __attribute__((preserve_access_index));

static __always_inline void stamp(struct vg_process *p, struct inode *inode)
{
	struct inode___underscored *underscored = (void *)inode;
	struct inode___plain *plain = (void *)inode;
	struct inode___named *named = (void *)inode;

	if (bpf_core_field_exists(named->i_ctime_nsec)) {
		p->changed = BPF_CORE_READ(named, i_ctime_sec);
		p->changed_ns = BPF_CORE_READ(named, i_ctime_nsec) & 0x7fffffff;
	} else if (bpf_core_field_exists(underscored->__i_ctime)) {
		p->changed = BPF_CORE_READ(underscored, __i_ctime.tv_sec);
		p->changed_ns = BPF_CORE_READ(underscored, __i_ctime.tv_nsec) & 0x7fffffff;
	} else if (bpf_core_field_exists(plain->i_ctime)) {
		p->changed = BPF_CORE_READ(plain, i_ctime.tv_sec);
		p->changed_ns = BPF_CORE_READ(plain, i_ctime.tv_nsec);
	}
}

/* Fill what exec decides, but argv. */
static __always_inline void fill(struct vg_process *p, struct task_struct *task, struct file *file, __u64 executed)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	p->started = BPF_CORE_READ(task, group_leader, start_boottime);
	p->pid = BPF_CORE_READ(task, tgid);
	p->ppid = BPF_CORE_READ(task, real_parent, tgid);
	p->uid = BPF_CORE_READ(task, real_cred, uid.val);
	p->inode = BPF_CORE_READ(inode, i_ino);
	p->device = BPF_CORE_READ(inode, i_sb, s_dev);
	p->size = BPF_CORE_READ(inode, i_size);
	p->executed = executed ? executed : p->started;
	p->execer = p->pid;
	p->flags &= VG_FLAG_PARENTS_CUT;
	p->argv_len = 0;
	p->exe[0] = p->cwd[0] = 0;
	p->changed = p->changed_ns = 0;
	if (inode)
		stamp(p, inode);
	if (fs)
		path_of(BPF_CORE_READ(fs, pwd.dentry), BPF_CORE_READ(fs, pwd.mnt), p->argv, p->cwd);
	if (file)
		path_of(BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), p->argv, p->exe);
}

/* The kernel itself started it: the line of descent ends here, and is whole. */
static __always_inline void of_the_kernel(struct vg_process *p)
{
	__builtin_memcpy(p->parents, "kernel:", 8);
	p->parents_len = 8;
	p->flags &= ~VG_FLAG_PARENTS_CUT;
}

static __always_inline bool is_kernel_thread(struct task_struct *task)
{
	return BPF_CORE_READ(task, flags) & KERNEL_THREAD;
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

static long hand_on(__u32 number, __u32 *found)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct vg_process *p = bpf_map_lookup_elem(&lineage, &tgid);
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;
	struct socket *socket;
	struct sock *sk;
	__u16 family;
	__u8 state;
	__u64 cookie;

	if (!p || number >= BPF_CORE_READ(table, max_fds))
		return 1;
	if (bpf_probe_read_kernel(&file, sizeof(file), files + number) || !file)
		return 0;
	if ((BPF_CORE_READ(file, f_inode, i_mode) & FILE_TYPE) != SOCKET_FILE)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if ((family != INET && family != INET6) || BPF_CORE_READ(socket, type) != STREAM || !cookie)
		return 0;
	if (state == TCP_CLOSE || state == TCP_LISTEN) /* no flow, and thousands of them would drive one out of the map */
		return 0;
	*found = 1;
	bpf_map_update_elem(&carried, &cookie, p, BPF_ANY);
	tell(p, VG_EVENT_CARRIED, cookie);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(vg_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	__u32 tgid = task->tgid, found = 0;
	struct vg_process *p = bpf_map_lookup_elem(&lineage, &tgid);
	bool connected;

	if (!p) {
		bpf_map_update_elem(&lineage, &tgid, &blank, BPF_NOEXIST);
		p = bpf_map_lookup_elem(&lineage, &tgid);
		if (!p) {
			bump(VG_LOST_PROCESS);
			return 0;
		}
		if (is_kernel_thread(BPF_CORE_READ(task, real_parent)))
			of_the_kernel(p);
	}
	connected = p->flags & VG_FLAG_CONNECTED;
	fill(p, task, BPF_CORE_READ(bprm, file), bpf_ktime_get_boot_ns());
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u32 size = argv_size(p, start, BPF_CORE_READ(task, mm, arg_end));

	if (size > VG_ARGV || bpf_probe_read_user(p->argv, size, (void *)start))
		p->flags |= VG_FLAG_ARGV_UNKNOWN;
	else
		p->argv_len = size;
	if (bpf_current_task_under_cgroup(&governed, 0) != 1)
		return 0;
	tell(p, VG_EVENT_EXEC, 0);
	if (connected)
		bpf_loop(VG_DESCRIPTORS, hand_on, &found, 0);
	if (found)
		p->flags |= VG_FLAG_CONNECTED;
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
		bump(VG_LOST_PROCESS);
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

/* Return the topmost ancestor that has no entry, of a process whose parent has none. */
static __always_inline struct task_struct *topmost(struct task_struct *task)
{
	for (int i = 0; i < LEVELS; i++) {
		struct task_struct *parent = BPF_CORE_READ(task, real_parent);
		__u32 tgid = BPF_CORE_READ(parent, tgid);

		if (!tgid || is_kernel_thread(parent) || bpf_map_lookup_elem(&lineage, &tgid))
			return task;
		task = parent;
	}
	return NULL;
}

/* Fill `p` with a process as it is now, but argv. */
static __always_inline void seed_of(struct vg_process *p, struct task_struct *task)
{
	struct task_struct *above = BPF_CORE_READ(task, real_parent);
	__u32 tgid = BPF_CORE_READ(above, tgid);
	struct vg_process *parent = bpf_map_lookup_elem(&lineage, &tgid);

	bpf_probe_read_kernel(p, sizeof(*p), &blank);
	if (parent)
		descend(p, parent);
	else if (!tgid) /* the first process */
		p->flags = 0;
	else if (is_kernel_thread(above))
		of_the_kernel(p);
	fill(p, task, BPF_CORE_READ(task, mm, exe_file), 0);
	p->flags |= VG_FLAG_SEEDED | VG_FLAG_CONNECTED;
}

static __always_inline void take_in(struct vg_process *p)
{
	__u32 tgid = p->pid;

	if (bpf_map_update_elem(&lineage, &tgid, p, BPF_NOEXIST) == -7 /* E2BIG */)
		bump(VG_LOST_PROCESS);
}

SEC("iter.s/task")
int vg_seed(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *top;
	__u32 zero = 0;

	if (!task || task->pid != task->tgid)
		return 0;
	struct vg_process *p = bpf_map_lookup_elem(&seed, &zero);
	__u32 tgid = task->tgid;

	/* A kernel thread, a process that is ending, or one that is in already. */
	if (!BPF_CORE_READ(task, mm) || !p || bpf_map_lookup_elem(&lineage, &tgid))
		return 0;
	top = topmost(task);
	if (top != task && seed_mode < 2) {
		seed_missing++;
		if (seed_mode == 0 || !top || !BPF_CORE_READ(top, mm))
			return 0;
		seed_of(p, top);
		p->flags |= VG_FLAG_ARGV_UNKNOWN; /* the memory of another's ancestor cannot be read from here */
		take_in(p);
		return 0;
	}
	seed_of(p, task);
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u32 size = argv_size(p, start, BPF_CORE_READ(task, mm, arg_end));

	if (size == 0 || size > VG_ARGV || bpf_copy_from_user_task(p->argv, size, (void *)start, task, 0))
		p->flags |= VG_FLAG_ARGV_UNKNOWN;
	else
		p->argv_len = size;
	take_in(p);
	return 0;
}
