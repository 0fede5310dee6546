/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The absolute path of a dentry, walked over dentries and mounts: bpf_d_path is not for the hooks used here. */
#ifndef VENDORGATE_PATH_H
#define VENDORGATE_PATH_H

#define WORK (2 * VG_EXE) /* bytes of scratch that path_of may touch, as the verifier counts them */
_Static_assert(VG_EXE == 256, "path_of masks with 255");

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

/* Write the absolute path of a dentry to `out`, "" if it cannot be told whole. `work` is WORK bytes of scratch. */
static __always_inline void path_of(struct dentry *dentry, struct vfsmount *vfs, char *work, char *out)
{
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

#endif
