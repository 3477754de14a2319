// SPDX-License-Identifier: Apache-2.0
/*
 * The only file that speaks libbpf. First start: maps and links are made and pinned. Later
 * starts: the pinned maps are taken over, and the programs behind the pinned links are replaced
 * in place, so that at no moment a connection meets no program.
 */
#define _GNU_SOURCE 1
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "connect.skel.h"
#include "established.skel.h"
#include "inbound.skel.h"
#include "walk.skel.h"
#include "lib/patch.h"

#define LINKS 7
#define PATH_LEN 512
#define LINK_PREFIX "link_" /* of pins: a link at the root of cgroup2 */
#define INBOUND_PREFIX "inbound_" /* a link in a network namespace */
#define DOOR_NAME "inbound_door" /* of every version: it says whose a namespace is */
#define NETNS_PROGRAMS 64 /* that the kernel lets attach to one namespace */
#define WORKLOADS_SIZE (WORKLOADS_MAX * sizeof(struct workload))

struct loader {
	char error[768];
	char dir[PATH_LEN]; /* the options' pin_dir */
	char pins[PATH_LEN]; /* the same, and the layout */
	bool adopts; /* links of a daemon before us are pinned there */
	bool fresh; /* it was looked, and there are none */
	uint32_t slot_count;
	struct connect *connect;
	struct inbound *inbound;
	struct established *established;
	struct walk *walk; /* NULL: this kernel cannot; the registry stays incomplete */
	int walk_link; /* its iterator; -1 likewise */
	struct slot *slots;
	struct dial *dials;
	struct workload *workloads;
	struct globals *globals;
	struct ring_buffer *ring;
	void (*take)(void *arg, const struct event *e);
	void *take_arg;
};

/* What libbpf said since the last call began; it ends up in the error. */
static _Thread_local char noise[400];

static int noise_keep(enum libbpf_print_level level, const char *format, va_list args)
{
	size_t used = strlen(noise);

	if (level == LIBBPF_WARN && used + 1 < sizeof noise)
		vsnprintf(noise + used, sizeof noise - used, format, args);
	return 0;
}

static void noise_flatten(void)
{
	size_t n = strlen(noise);

	while (n > 0 && noise[n - 1] == '\n')
		noise[--n] = '\0';
	for (char *c = noise; *c != '\0'; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
}

/* Sets the error text and returns `err`, which is -errno, or 0 for a text without errno. */
__attribute__((format(printf, 3, 4))) static int fail(struct loader *l, int err, const char *format,
						      ...)
{
	va_list args;
	size_t used;

	va_start(args, format);
	vsnprintf(l->error, sizeof l->error, format, args);
	va_end(args);
	used = strlen(l->error);
	snprintf(l->error + used, sizeof l->error - used, ": %s", strerror(-err));
	noise_flatten();
	used = strlen(l->error);
	if (noise[0] != '\0')
		snprintf(l->error + used, sizeof l->error - used, " (%s)", noise);
	noise[0] = '\0';
	return err;
}

const char *loader_error(const struct loader *l)
{
	return l != NULL ? l->error : "out of memory";
}

static int pin_path(const struct loader *l, char path[PATH_LEN], const char *prefix,
		    const char *name)
{
	int n = snprintf(path, PATH_LEN, "%s/%s%s", l->pins, prefix, name);

	return n < PATH_LEN ? 0 : -ENAMETOOLONG;
}

/* -ENOENT if there is none */
static int pin_open(const struct loader *l, const char *prefix, const char *name)
{
	char path[PATH_LEN];
	int err = pin_path(l, path, prefix, name);

	return err < 0 ? err : bpf_obj_get(path);
}

static void pin_unlink(const struct loader *l, const char *prefix, const char *name)
{
	char path[PATH_LEN];

	if (pin_path(l, path, prefix, name) == 0)
		unlink(path);
}

/* The folder */

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

/* Makes the missing parts of `path`, each of them only below a bpf file system. */
static int folder_make(const char *path)
{
	char part[PATH_LEN];
	char parent[PATH_LEN] = "/";
	const char *slash = path;

	if (strlen(path) >= sizeof part || path[0] != '/')
		return -EINVAL;
	while (slash != NULL) {
		size_t n;

		slash = strchr(slash + 1, '/');
		n = slash != NULL ? (size_t)(slash - path) : strlen(path);
		memcpy(part, path, n);
		part[n] = '\0';
		if (access(part, F_OK) < 0) {
			if (!is_bpffs(parent))
				return -EINVAL;
			if (mkdir(part, 0700) < 0 && errno != EEXIST)
				return -errno;
		}
		memcpy(parent, part, n + 1);
	}
	return is_bpffs(path) ? 0 : -EINVAL;
}

static bool is_link(const struct dirent *entry)
{
	return strncmp(entry->d_name, INBOUND_PREFIX, strlen(INBOUND_PREFIX)) == 0 ||
	       strncmp(entry->d_name, LINK_PREFIX, strlen(LINK_PREFIX)) == 0;
}

/* Did a daemon before us leave links, and programs that judge? */
static int folder_find_links(struct loader *l)
{
	struct dirent *entry;
	DIR *dir = opendir(l->pins);

	if (dir == NULL)
		return fail(l, -errno, "cannot read %s", l->pins);
	errno = 0;
	while (!l->adopts && (entry = readdir(dir)) != NULL)
		l->adopts = is_link(entry);
	l->fresh = !l->adopts && errno == 0;
	closedir(dir);
	return 0;
}

/* Pins of another layout keep their programs attached: two sets would both judge. */
static int folder_check_layout(struct loader *l)
{
	struct dirent *entry;
	DIR *dir = opendir(l->dir);
	int err = 0;

	if (dir == NULL)
		return fail(l, -errno, "cannot read %s", l->dir);
	while (err == 0 && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, ABI_LAYOUT) != 0)
			err = fail(l, -EEXIST,
				   "%s/%s was left by another version of shuntd, this one uses %s; "
				   "remove it with: shunt detach",
				   l->dir, entry->d_name, ABI_LAYOUT);
	closedir(dir);
	return err;
}

static int folder_open(struct loader *l, const char *pin_dir)
{
	int err;
	int n;

	n = snprintf(l->dir, sizeof l->dir, "%s", pin_dir);
	if (n < (int)sizeof l->dir)
		n = snprintf(l->pins, sizeof l->pins, "%s/" ABI_LAYOUT, pin_dir);
	if (n >= (int)sizeof l->dir)
		return fail(l, -ENAMETOOLONG, "the folder of the pins, %s", pin_dir);
	err = folder_make(l->dir);
	if (err == -EINVAL)
		return fail(l, err,
			    "%s is not on a bpf file system; mount one: "
			    "mount -t bpf bpf /sys/fs/bpf",
			    pin_dir);
	if (err < 0)
		return fail(l, err, "cannot make %s", pin_dir);
	err = folder_check_layout(l);
	if (err < 0)
		return err;
	err = folder_make(l->pins);
	return err < 0 ? fail(l, err, "cannot make %s", l->pins) : folder_find_links(l);
}

/* Maps and programs */

static bool map_fits(const struct bpf_map *map, const struct bpf_map_info *info)
{
	return info->type == bpf_map__type(map) && info->key_size == bpf_map__key_size(map) &&
	       info->value_size == bpf_map__value_size(map) &&
	       info->max_entries == bpf_map__max_entries(map) &&
	       info->map_flags == bpf_map__map_flags(map);
}

/* A map that another daemon pinned is this layout's to the last number, or refused. */
static int map_check_pinned(struct loader *l, const struct bpf_map *map)
{
	struct bpf_map_info info;
	__u32 len = sizeof info;
	int fd = pin_open(l, "", bpf_map__name(map));
	int err;

	/* The programs that are attached have the one that was unpinned. With an empty one in its
	 * place ours would judge by it until it is filled. */
	if (fd == -ENOENT && l->adopts)
		return fail(l, fd,
			    "%s/%s is gone, the programs pinned beside it still use it; remove "
			    "the pins with: shunt detach",
			    l->pins, bpf_map__name(map));
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fail(l, fd, "cannot open %s/%s", l->pins, bpf_map__name(map));
	memset(&info, 0, sizeof info);
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	close(fd);
	if (err < 0)
		return fail(l, err, "cannot read %s/%s", l->pins, bpf_map__name(map));
	if (map_fits(map, &info))
		return 0;
	return fail(l, -EEXIST,
		    "%s/%s has another type or size (type %u, key %u, value %u, %u entries) than "
		    "this shuntd uses (another version, or option `slots` was changed); remove the "
		    "pins with: shunt detach",
		    l->pins, bpf_map__name(map), info.type, info.key_size, info.value_size,
		    info.max_entries);
}

static int map_prepare(struct loader *l, struct bpf_map *map)
{
	const char *name = bpf_map__name(map);
	char path[PATH_LEN];
	int err = pin_path(l, path, "", name);

	if (err == 0 && strcmp(name, "slots") == 0)
		err = bpf_map__set_max_entries(map, l->slot_count);
	if (err == 0 && strcmp(name, "dials") == 0)
		err = bpf_map__set_max_entries(map, DIALS(l->slot_count));
	if (err == 0)
		err = bpf_map__set_pin_path(map, path);
	return err < 0 ? fail(l, err, "map %s", name) : map_check_pinned(l, map);
}

static int object_load(struct loader *l, struct bpf_object *object, const char *what)
{
	struct bpf_map *map;
	int err;

	bpf_object__for_each_map(map, object)
	{
		err = bpf_map__is_internal(map) ? 0 : map_prepare(l, map);
		if (err < 0)
			return err;
	}
	err = bpf_object__load(object);
	if (err == -EPERM)
		return fail(l, err,
			    "cannot load the %s programs; CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON "
			    "are needed",
			    what);
	return err < 0 ? fail(l, err, "cannot load the %s programs", what) : 0;
}

static int objects_load(struct loader *l)
{
	int err;

	l->connect = connect__open();
	l->inbound = inbound__open();
	l->established = established__open();
	if (l->connect == NULL || l->inbound == NULL || l->established == NULL)
		return fail(l, -errno, "cannot read the programs");
	err = object_load(l, l->connect->obj, "connect");
	if (err == 0)
		err = object_load(l, l->inbound->obj, "inbound");
	if (err == 0)
		err = object_load(l, l->established->obj, "established");
	return err;
}

/* A kernel without iterators does without a complete registry. What it lacks only now is an
 * error. */
static int walk_load(struct loader *l)
{
	int err;

	l->walk = walk__open();
	if (l->walk == NULL)
		return fail(l, -errno, "cannot read the walk program");
	err = object_load(l, l->walk->obj, "walk");
	if (err == 0)
		err = l->walk_link = bpf_link_create(bpf_program__fd(l->walk->progs.walk), 0,
						     BPF_TRACE_ITER, NULL);
	if (err >= 0)
		return 0;
	walk__destroy(l->walk);
	l->walk = NULL;
	if (err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -EPERM)
		return fail(l, err, "cannot load the walk program");
	l->error[0] = '\0';
	return 0;
}

static void *map_share(struct loader *l, const struct bpf_map *map, size_t size)
{
	int prot = PROT_READ | PROT_WRITE;
	void *p = mmap(NULL, size, prot, MAP_SHARED, bpf_map__fd(map), 0);

	if (p != MAP_FAILED)
		return p;
	fail(l, -errno, "cannot map %s", bpf_map__name(map));
	return NULL;
}

static int event_take(void *ctx, void *data, size_t size)
{
	struct loader *l = ctx;

	if (size == sizeof(struct event))
		l->take(l->take_arg, data);
	return 0;
}

static int maps_share(struct loader *l)
{
	l->slots = map_share(l, l->connect->maps.slots, l->slot_count * sizeof(struct slot));
	if (l->slots == NULL)
		return -ENOMEM;
	l->dials = map_share(l, l->connect->maps.dials, DIALS(l->slot_count) * sizeof(struct dial));
	if (l->dials == NULL)
		return -ENOMEM;
	l->workloads = map_share(l, l->connect->maps.workloads, WORKLOADS_SIZE);
	if (l->workloads == NULL)
		return -ENOMEM;
	l->globals = map_share(l, l->connect->maps.globals, sizeof(struct globals));
	if (l->globals == NULL)
		return -ENOMEM;
	l->ring = ring_buffer__new(bpf_map__fd(l->connect->maps.events), event_take, l, NULL);
	if (l->ring == NULL)
		return fail(l, -errno, "cannot read the ring of events");
	return 0;
}

/* Links */

struct cgroup_link {
	const char *name;
	enum bpf_attach_type type;
	const struct bpf_program *program;
};

/* getpeername before connect: the first captured client already sees the right name. */
static void links_list(const struct loader *l, struct cgroup_link links[LINKS])
{
	const struct cgroup_link all[LINKS] = {
		{"sockops", BPF_CGROUP_SOCK_OPS, l->established->progs.established},
		{"getpeername4", BPF_CGROUP_INET4_GETPEERNAME, l->connect->progs.getpeername4},
		{"getpeername6", BPF_CGROUP_INET6_GETPEERNAME, l->connect->progs.getpeername6},
		{"getsockname4", BPF_CGROUP_INET4_GETSOCKNAME, l->connect->progs.getsockname4},
		{"getsockname6", BPF_CGROUP_INET6_GETSOCKNAME, l->connect->progs.getsockname6},
		{"connect4", BPF_CGROUP_INET4_CONNECT, l->connect->progs.connect4},
		{"connect6", BPF_CGROUP_INET6_CONNECT, l->connect->progs.connect6},
	};

	memcpy(links, all, sizeof all);
}

/* Makes the link and pins it; the descriptor is not kept, the pin holds it. */
static int link_create(const struct loader *l, int prog_fd, int target_fd,
		       enum bpf_attach_type type, const char *prefix, const char *name)
{
	char path[PATH_LEN];
	int err = pin_path(l, path, prefix, name);
	int fd;

	if (err < 0)
		return err;
	fd = bpf_link_create(prog_fd, target_fd, type, NULL);
	if (fd < 0)
		return fd;
	err = bpf_obj_pin(fd, path);
	close(fd);
	return err;
}

/* Replaces the program behind the pinned link in place, or makes the link. A link whose cgroup
 * or namespace is gone says ENOLINK, what is no link of ours EINVAL: such a pin is a leftover. */
static int link_put(const struct loader *l, int prog_fd, int target_fd, enum bpf_attach_type type,
		    const char *prefix, const char *name)
{
	int fd = pin_open(l, prefix, name);
	int err = fd;

	if (fd >= 0) {
		err = bpf_link_update(fd, prog_fd, NULL);
		close(fd);
	}
	if (err == -ENOLINK || err == -EINVAL)
		pin_unlink(l, prefix, name);
	if (err == -ENOLINK || err == -EINVAL || err == -ENOENT)
		err = link_create(l, prog_fd, target_fd, type, prefix, name);
	return err;
}

/* `where`: id of the cgroup or inode of the namespace it is attached to; 0: detached. */
static int link_info(int fd, uint64_t *where)
{
	struct bpf_link_info info;
	__u32 len = sizeof info;
	int err;

	memset(&info, 0, sizeof info);
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	if (err == 0 && info.type == BPF_LINK_TYPE_CGROUP)
		*where = info.cgroup.cgroup_id;
	else if (err == 0 && info.type == BPF_LINK_TYPE_NETNS)
		*where = info.netns.netns_ino;
	else
		err = err < 0 ? err : -EINVAL;
	return err;
}

static int link_check_root(struct loader *l, const char *name, const char *root, uint64_t id)
{
	int fd = pin_open(l, LINK_PREFIX, name);
	uint64_t where = 0;
	int err;

	if (fd < 0)
		return 0; /* none yet, or link_put() finds out */
	err = link_info(fd, &where);
	close(fd);
	if (err == 0 && (where == id || where == 0))
		return 0;
	if (err < 0)
		return fail(l, -EEXIST,
			    "%s/link_%s is none of our links; remove the pins with: shunt detach",
			    l->pins, name);
	return fail(l, -EEXIST,
		    "%s/link_%s is attached to another cgroup than %s; remove the pins with: "
		    "shunt detach",
		    l->pins, name, root);
}

static int links_attach(struct loader *l, const char *root)
{
	struct cgroup_link links[LINKS];
	struct stat st;
	int cgroup = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (cgroup < 0 || fstat(cgroup, &st) < 0) {
		err = fail(l, -errno, "cannot open the root of cgroup2, %s", root);
		if (cgroup >= 0)
			close(cgroup);
		return err;
	}
	links_list(l, links);
	for (size_t i = 0; i < LINKS && err == 0; i++)
		err = link_check_root(l, links[i].name, root, st.st_ino);
	for (size_t i = 0; i < LINKS && err == 0; i++) {
		err = link_put(l, bpf_program__fd(links[i].program), cgroup, links[i].type,
			       LINK_PREFIX, links[i].name);
		if (err < 0)
			fail(l, err, "cannot attach %s to %s", links[i].name, root);
	}
	close(cgroup);
	return err;
}

/* What every door calls, from now on. */
static int inbound_replace(struct loader *l)
{
	int program = bpf_program__fd(l->inbound->progs.inbound);
	uint32_t zero = 0;
	int err = bpf_map_update_elem(bpf_map__fd(l->inbound->maps.door_program), &zero, &program,
				      BPF_ANY);

	return err < 0 ? fail(l, err, "cannot enter the inbound program") : 0;
}

/* Open, close, detach */

static int options_check(struct loader *l, const struct loader_options *o)
{
	if (o->slots == 0 || o->slots > SLOTS_MAX || (o->slots & (o->slots - 1)) != 0)
		return fail(l, -EINVAL, "slots is %u, it must be a power of two, at most %u",
			    o->slots, SLOTS_MAX);
	if (o->slots * sizeof(struct dial) < (size_t)sysconf(_SC_PAGESIZE))
		return fail(l, -EINVAL, "slots is %u, too few", o->slots);
	l->slot_count = o->slots;
	return 0;
}

/* Before the first program of ours runs: it exempts us by our cgroup. */
static void globals_fill(struct loader *l, const struct loader_options *o)
{
	struct globals *g = l->globals;
	uint32_t quota = o->slot_quota ? o->slot_quota : o->slots / 4;

	__atomic_store_n(&g->self_cgroup, o->self_cgroup, __ATOMIC_SEQ_CST);
	__atomic_store_n(&g->host_netns, o->host_netns, __ATOMIC_SEQ_CST);
	__atomic_store_n(&g->slot_mask, o->slots - 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&g->slot_quota, quota, __ATOMIC_SEQ_CST);
	__atomic_store_n(&g->event_rate, o->event_rate, __ATOMIC_SEQ_CST);
}

int loader_open(const struct loader_options *options, struct loader **out)
{
	struct loader *l = calloc(1, sizeof *l);
	int err;

	*out = l;
	if (l == NULL)
		return -ENOMEM;
	l->walk_link = -1;
	noise[0] = '\0';
	libbpf_set_print(noise_keep);
	err = options_check(l, options);
	if (err == 0)
		err = folder_open(l, options->pin_dir);
	if (err == 0)
		err = objects_load(l);
	if (err == 0)
		err = maps_share(l);
	if (err < 0)
		return err;
	/* A daemon that was killed inside a change left it odd. */
	__atomic_fetch_and(&l->globals->policy_changes, ~1U, __ATOMIC_SEQ_CST);
	globals_fill(l, options);
	err = inbound_replace(l);
	if (err == 0)
		err = links_attach(l, options->cgroup_root);
	/* Only what begins to listen while sockops is attached may be left out of a walk. */
	return err == 0 ? walk_load(l) : err;
}

void loader_close(struct loader *l)
{
	if (l == NULL)
		return;
	ring_buffer__free(l->ring);
	if (l->slots != NULL)
		munmap(l->slots, l->slot_count * sizeof(struct slot));
	if (l->dials != NULL)
		munmap(l->dials, DIALS(l->slot_count) * sizeof(struct dial));
	if (l->workloads != NULL)
		munmap(l->workloads, WORKLOADS_SIZE);
	if (l->globals != NULL)
		munmap(l->globals, sizeof(struct globals));
	if (l->walk_link >= 0)
		close(l->walk_link);
	walk__destroy(l->walk);
	connect__destroy(l->connect);
	inbound__destroy(l->inbound);
	established__destroy(l->established);
	free(l);
}

/* Detaches first: an unlinked link lives on as long as anybody holds a descriptor of it, and
 * else ends a little later. Maps and programs say EINVAL. */
static int detach_pin(int dir, const char *path, const char *name)
{
	int fd = bpf_obj_get(path);

	if (fd >= 0) {
		bpf_link_detach(fd);
		close(fd);
	}
	return unlinkat(dir, name, 0) < 0 ? -errno : 1;
}

static int detach_folder(const char *path);

static int detach_entry(int dir, const char *folder, const struct dirent *entry)
{
	char path[PATH_LEN];
	struct stat st;

	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
		return 0;
	if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	if (fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISDIR(st.st_mode) ? detach_folder(path) : detach_pin(dir, path, entry->d_name);
}

/* Links before maps: a program that is attached must not lose what it decides by. */
static int detach_order(const struct dirent **a, const struct dirent **b)
{
	return (int)is_link(*b) - (int)is_link(*a);
}

/* Reads the folder to its end before it goes over it again: removing moves the offsets. */
static int detach_folder(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, detach_order);
	int removed = 0;
	int err = 0;
	int dir;

	if (n < 0)
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		err = -errno;
	for (int i = 0; i < n; i++) {
		int r = err == 0 ? detach_entry(dir, path, entries[i]) : 0;

		err = r < 0 ? r : err;
		removed += r > 0 ? r : 0;
		free(entries[i]);
	}
	free(entries);
	if (dir >= 0)
		close(dir);
	if (err == 0 && rmdir(path) < 0)
		err = -errno;
	return err < 0 ? err : removed;
}

/* The folder that the daemons of this machine share goes with the last of them. */
static void remove_empty_parent(const char *pin_dir)
{
	char parent[PATH_MAX];
	char *end;

	if (snprintf(parent, sizeof parent, "%s", pin_dir) >= (int)sizeof parent)
		return;
	end = strrchr(parent, '/');
	if (end == NULL || end == parent)
		return;
	*end = '\0';
	rmdir(parent); /* fails, as it should, while it holds another's pins */
}

int loader_detach(const char *pin_dir)
{
	int removed;

	if (access(pin_dir, F_OK) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!is_bpffs(pin_dir))
		return -EINVAL;
	libbpf_set_print(noise_keep);
	removed = detach_folder(pin_dir);
	remove_empty_parent(pin_dir);
	return removed;
}

int loader_undo(const struct loader *l)
{
	return l->fresh ? loader_detach(l->dir) : 0;
}

/* Workloads */

static void workload_write(struct workload *to, const struct workload *w)
{
	to->ip4 = w->ip4;
	to->ip6 = w->ip6;
	__atomic_store_n(&to->exclusion, w->exclusion, __ATOMIC_RELEASE);
	__atomic_store_n(&to->identity, w->identity, __ATOMIC_RELEASE);
	__atomic_store_n(&to->flags, w->flags, __ATOMIC_RELEASE);
}

int loader_workload_put(struct loader *l, const struct workload *w)
{
	int map = bpf_map__fd(l->connect->maps.places);
	struct workload *to;
	int err;

	if (w->index >= WORKLOADS_MAX || w->place == 0)
		return fail(l, -EINVAL, "workload index %u", w->index);
	to = &l->workloads[w->index];
	if (to->place != w->place || to->generation != w->generation) {
		__atomic_store_n(&to->place, 0, __ATOMIC_SEQ_CST);
		*to = (struct workload){.index = w->index, .generation = w->generation};
	}
	workload_write(to, w);
	__atomic_store_n(&to->place, w->place, __ATOMIC_SEQ_CST);
	err = bpf_map_update_elem(map, &w->place, &w->index, BPF_ANY);
	if (err == -E2BIG)
		return fail(l, err, "more than %u workloads", WORKLOADS_MAX);
	return err < 0 ? fail(l, err, "cannot enter a workload") : 0;
}

/* Every key of a hash map; `take` may remove the one it is given. Bounded: where others remove
 * the next one, it begins again. */
static void keys_each(int map, size_t size, void (*take)(int map, const void *key, void *arg),
		      void *arg)
{
	unsigned char key[64], next[64];
	bool more = bpf_map_get_next_key(map, NULL, key) == 0;

	for (unsigned n = 0; more && n < 4 * PORTS_MAX; n++) {
		more = bpf_map_get_next_key(map, key, next) == 0;
		take(map, key, arg);
		memcpy(key, next, size);
	}
}

/* What walks have found; who is counted stays so until he ends, which takes him off again. */
static void port_forget(int map, const void *key, void *arg)
{
	struct port p;

	if (((const struct port_key *)key)->netns != *(const uint64_t *)arg)
		return;
	if (bpf_map_lookup_elem(map, key, &p) == 0 && p.live == 0)
		bpf_map_delete_elem(map, key);
}

void loader_workload_remove(struct loader *l, uint64_t place)
{
	int map = bpf_map__fd(l->connect->maps.places);
	uint32_t index;

	if (bpf_map_lookup_elem(map, &place, &index) == 0 && index < WORKLOADS_MAX &&
	    l->workloads[index].place == place)
		__atomic_store_n(&l->workloads[index].place, 0, __ATOMIC_SEQ_CST);
	bpf_map_delete_elem(map, &place);
	if (!(place & PLACE_CGROUP))
		keys_each(bpf_map__fd(l->connect->maps.ports), sizeof(struct port_key), port_forget,
			  &place);
}

struct workload *loader_workload(struct loader *l, uint32_t index)
{
	return &l->workloads[index];
}

size_t loader_workload_list(struct loader *l, struct workload *w, size_t n)
{
	int map = bpf_map__fd(l->connect->maps.places);
	uint64_t key, *previous = NULL;
	size_t count = 0;
	uint32_t index;

	while (bpf_map_get_next_key(map, previous, &key) == 0) {
		previous = &key;
		if (bpf_map_lookup_elem(map, &key, &index) < 0 || index >= WORKLOADS_MAX)
			continue;
		if (count < n) {
			w[count] = l->workloads[index];
			w[count].place = key;
			w[count].index = index;
		}
		count++;
	}
	return count;
}

void loader_host_workloads(struct loader *l, uint32_t count)
{
	__atomic_store_n(&l->globals->host_workloads, count, __ATOMIC_SEQ_CST);
}

int loader_listener_put(struct loader *l, uint32_t index, enum listener_kind kind, int fd)
{
	uint32_t key = index * LISTENERS_PER_WORKLOAD + kind;
	uint64_t value = (uint64_t)fd;
	int err;

	if (index >= WORKLOADS_MAX || kind >= LISTENER_KINDS)
		return fail(l, -EINVAL, "listener kind %d of workload %u", (int)kind, index);
	err = bpf_map_update_elem(bpf_map__fd(l->connect->maps.listeners), &key, &value, BPF_ANY);
	return err < 0 ? fail(l, err, "cannot enter a listener") : 0;
}

void loader_listener_remove(struct loader *l, uint32_t index, enum listener_kind kind)
{
	uint32_t key = index * LISTENERS_PER_WORKLOAD + kind;

	if (index < WORKLOADS_MAX)
		bpf_map_delete_elem(bpf_map__fd(l->connect->maps.listeners), &key);
}

/* The inbound door of one namespace */

/* Writes the values over the template's marks; returns which were found, as bits. */
static unsigned int patch_apply(struct bpf_insn *insns, size_t n,
				const uint64_t values[PATCH_COUNT])
{
	unsigned int found = 0;

	for (size_t i = 0; i + 1 < n; i++) {
		uint64_t low = (uint32_t)insns[i].imm, high = (uint32_t)insns[i + 1].imm;
		uint64_t which = (high << 32 | low) - PATCH_MAGIC;

		if (insns[i].code != (BPF_LD | BPF_IMM | BPF_DW))
			continue;
		if (insns[i].src_reg == 0 && which < PATCH_COUNT) {
			insns[i].imm = (int32_t)(uint32_t)values[which];
			insns[i + 1].imm = (int32_t)(uint32_t)(values[which] >> 32);
			found |= 1U << which;
		}
		i++; /* the second half is no instruction */
	}
	return found;
}

/* The template's instructions carry the descriptors of its maps since it was loaded. */
static int inbound_load(const struct loader *l, uint64_t netns)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_SK_LOOKUP);
	const struct bpf_program *template = l->inbound->progs.inbound_door;
	size_t n = bpf_program__insn_cnt(template);
	const uint64_t values[PATCH_COUNT] = {[PATCH_NETNS] = netns};
	struct bpf_insn *insns = malloc(n * sizeof *insns);
	int fd = -EINVAL;

	if (insns == NULL)
		return -ENOMEM;
	memcpy(insns, bpf_program__insns(template), n * sizeof *insns);
	if (patch_apply(insns, n, values) == (1U << PATCH_COUNT) - 1)
		fd = bpf_prog_load(BPF_PROG_TYPE_SK_LOOKUP, DOOR_NAME, "Dual BSD/GPL", insns, n,
				   &opts);
	free(insns);
	return fd;
}

static void inbound_name(char name[17], uint64_t netns)
{
	snprintf(name, 17, "%016llx", (unsigned long long)netns);
}

/* Id of our own door's program there; 0: we have none. */
static uint32_t inbound_id(const struct loader *l, uint64_t netns)
{
	struct bpf_link_info info;
	__u32 len = sizeof info;
	char name[17];
	int fd;

	inbound_name(name, netns);
	fd = pin_open(l, INBOUND_PREFIX, name);
	if (fd < 0)
		return 0;
	memset(&info, 0, sizeof info);
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		info.prog_id = 0;
	close(fd);
	return info.prog_id;
}

static bool is_door(uint32_t id)
{
	struct bpf_prog_info info;
	__u32 len = sizeof info;
	int fd = bpf_prog_get_fd_by_id(id);
	bool door;

	if (fd < 0)
		return false;
	memset(&info, 0, sizeof info);
	door = bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, DOOR_NAME) == 0;
	close(fd);
	return door;
}

bool loader_inbound_is_taken(const struct loader *l, int netns_fd, uint64_t netns)
{
	uint32_t ids[NETNS_PROGRAMS], count = NETNS_PROGRAMS, own = inbound_id(l, netns);

	/* In the order they were attached in. */
	if (bpf_prog_query(netns_fd, BPF_SK_LOOKUP, 0, NULL, ids, &count) < 0)
		return false;
	for (uint32_t i = 0; i < count && ids[i] != own; i++)
		if (is_door(ids[i]))
			return true;
	return false;
}

int loader_inbound_attach(struct loader *l, int netns_fd, uint64_t netns)
{
	char name[17];
	int fd = inbound_load(l, netns);
	int err;

	if (fd < 0)
		return fail(l, fd, "cannot load the inbound program");
	inbound_name(name, netns);
	err = link_put(l, fd, netns_fd, BPF_SK_LOOKUP, INBOUND_PREFIX, name);
	close(fd);
	return err < 0 ? fail(l, err, "cannot attach the inbound program") : 0;
}

void loader_inbound_detach(struct loader *l, uint64_t netns)
{
	char name[17];
	int fd;

	inbound_name(name, netns);
	fd = pin_open(l, INBOUND_PREFIX, name);
	if (fd >= 0) {
		bpf_link_detach(fd);
		close(fd);
	}
	pin_unlink(l, INBOUND_PREFIX, name);
}

/* Addresses and policy: make a hash map hold exactly these entries */

/* An array of records, each a key and, behind it, a value; in the order of `compare`, which
 * looks at the key only. */
struct table {
	int map;
	size_t key_size;
	size_t value_size;
	int (*compare)(const void *a, const void *b);
	__u32 *changes; /* counted before and after each change, or NULL */
	bool longest_match; /* looking a key up finds others too */
};

/* A reader of several entries sees by the count that one changed under it. */
static int table_change(const struct table *t, const void *key, const void *value)
{
	int err;

	if (t->changes != NULL)
		__atomic_fetch_add(t->changes, 1, __ATOMIC_SEQ_CST);
	err = value ? bpf_map_update_elem(t->map, key, value, BPF_ANY)
		    : bpf_map_delete_elem(t->map, key);
	if (t->changes != NULL)
		__atomic_fetch_add(t->changes, 1, __ATOMIC_SEQ_CST);
	return err;
}

static int compare_address(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct addr16));
}

/* 0 for the most specific: (peer, port) (peer, any) (any, port) (any, any) */
static int policy_rank(const struct policy_key *key)
{
	return (key->peer == IDENTITY_ANY ? 2 : 0) + (key->port == 0 ? 1 : 0);
}

static int compare_policy(const void *a, const void *b)
{
	int rank = policy_rank(a) - policy_rank(b);

	return rank != 0 ? rank : memcmp(a, b, sizeof(struct policy_key));
}

/* Puts what is new or differs, in order. */
static int table_put(const struct table *t, const unsigned char *records, size_t n)
{
	size_t size = t->key_size + t->value_size;
	unsigned char old[64];
	int err = 0;

	for (size_t i = 0; i < n && err == 0; i++) {
		const unsigned char *key = records + i * size;
		const unsigned char *value = key + t->key_size;

		if (t->longest_match || bpf_map_lookup_elem(t->map, key, old) < 0 ||
		    memcmp(old, value, t->value_size) != 0)
			err = table_change(t, key, value);
	}
	return err;
}

/* The keys that the map holds and `records` does not; *out is the caller's to free. */
static int table_surplus(const struct table *t, const unsigned char *records, size_t n,
			 unsigned char **out, size_t *count)
{
	size_t size = t->key_size + t->value_size, room = 0;
	unsigned char key[64], *previous = NULL;

	*out = NULL;
	*count = 0;
	while (bpf_map_get_next_key(t->map, previous, key) == 0) {
		previous = key;
		if (n > 0 && bsearch(key, records, n, size, t->compare) != NULL)
			continue;
		if (*count == room) {
			unsigned char *more;

			room = room == 0 ? 64 : 2 * room;
			more = realloc(*out, room * t->key_size);
			if (more == NULL)
				return -ENOMEM;
			*out = more;
		}
		memcpy(*out + (*count)++ * t->key_size, key, t->key_size);
	}
	return 0;
}

/* A sorted copy of `n` records; NULL when memory is short. */
static unsigned char *table_sorted(const struct table *t, const void *entries, size_t n)
{
	size_t size = t->key_size + t->value_size;
	unsigned char *records = malloc(n * size + 1);

	if (records != NULL && n > 0) {
		memcpy(records, entries, n * size);
		qsort(records, n, size, t->compare);
	}
	return records;
}

/* Removes what `records` does not have, in the order opposite to that of table_put(). */
static int table_prune(const struct table *t, const unsigned char *records, size_t n)
{
	unsigned char *surplus = NULL;
	size_t count = 0;
	int err = table_surplus(t, records, n, &surplus, &count);

	if (err == 0 && count > 0)
		qsort(surplus, count, t->key_size, t->compare);
	while (err == 0 && count > 0)
		err = table_change(t, surplus + --count * t->key_size, NULL);
	free(surplus);
	return err;
}

/* Both steps of one map, or the one that is asked for. */
static int table_apply(const struct table *t, const void *entries, size_t n, bool put, bool prune)
{
	unsigned char *records = table_sorted(t, entries, n);
	int err = records != NULL ? 0 : -ENOMEM;

	if (err == 0 && put)
		err = table_put(t, records, n);
	if (err == 0 && prune)
		err = table_prune(t, records, n);
	free(records);
	return err;
}

static struct table policy_table(const struct loader *l)
{
	return (struct table){
		.map = bpf_map__fd(l->connect->maps.policy),
		.key_size = sizeof(struct policy_key),
		.value_size = sizeof(struct policy_entry),
		.compare = compare_policy,
		.changes = &l->globals->policy_changes,
	};
}

_Static_assert(sizeof(struct loader_policy) ==
		       sizeof(struct policy_key) + sizeof(struct policy_entry),
	       "a record is key and value, nothing between");

int loader_policy_put(struct loader *l, const struct loader_policy *entries, size_t n,
		      uint64_t revision)
{
	const struct table t = policy_table(l);
	int err;

	if (n > POLICY_MAX)
		return fail(l, -E2BIG, "%zu policy entries, at most %u fit", n, POLICY_MAX);
	err = table_apply(&t, entries, n, true, false);
	if (err < 0)
		return fail(l, err, "cannot write the policy");
	__atomic_store_n(&l->globals->revision, revision, __ATOMIC_SEQ_CST);
	return 0;
}

int loader_policy_prune(struct loader *l, const struct loader_policy *entries, size_t n)
{
	const struct table t = policy_table(l);
	int err = table_apply(&t, entries, n, false, true);

	return err < 0 ? fail(l, err, "cannot remove old policy entries") : 0;
}

int loader_address_replace(struct loader *l, const struct loader_address *entries, size_t n)
{
	const struct table t = {
		.map = bpf_map__fd(l->connect->maps.addresses),
		.key_size = sizeof(struct addr16),
		.value_size = sizeof(struct address),
		.compare = compare_address,
	};
	int err;

	_Static_assert(sizeof *entries == sizeof(struct addr16) + sizeof(struct address),
		       "a record is key and value, nothing between");
	if (n > ADDRESSES_MAX)
		return fail(l, -E2BIG, "%zu addresses, at most %u fit", n, ADDRESSES_MAX);
	err = table_apply(&t, entries, n, true, true);
	return err < 0 ? fail(l, err, "cannot write the addresses") : 0;
}

/* Exclusions and declared ports: the same, on maps of other shapes */

static int compare_exclude_port(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct exclude_port));
}

static int compare_exclude_cidr(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct exclude_cidr));
}

static int compare_owner(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(uint32_t));
}

static struct table exclude_ports_table(const struct loader *l)
{
	return (struct table){
		.map = bpf_map__fd(l->connect->maps.exclude_ports),
		.key_size = sizeof(struct exclude_port),
		.value_size = sizeof(uint32_t),
		.compare = compare_exclude_port,
	};
}

static struct table exclude_cidrs_table(const struct loader *l)
{
	return (struct table){
		.map = bpf_map__fd(l->connect->maps.exclude_cidrs),
		.key_size = sizeof(struct exclude_cidr),
		.value_size = sizeof(uint32_t),
		.compare = compare_exclude_cidr,
		.longest_match = true,
	};
}

static int exclusions_apply(struct loader *l, const struct loader_exclusions *e, bool put)
{
	const struct table ports = exclude_ports_table(l), cidrs = exclude_cidrs_table(l);
	int err;

	if (e->port_count > EXCLUSIONS_MAX || e->cidr_count > EXCLUSIONS_MAX)
		return fail(l, -E2BIG, "more than %u excluded ports or CIDRs", EXCLUSIONS_MAX);
	err = table_apply(&ports, e->ports, e->port_count, put, !put);
	if (err == 0)
		err = table_apply(&cidrs, e->cidrs, e->cidr_count, put, !put);
	return err < 0 ? fail(l, err, "cannot write the exclusions") : 0;
}

int loader_exclusions_put(struct loader *l, const struct loader_exclusions *e)
{
	return exclusions_apply(l, e, true);
}

int loader_exclusions_prune(struct loader *l, const struct loader_exclusions *e)
{
	return exclusions_apply(l, e, false);
}

int loader_owner_replace(struct loader *l, const struct loader_owner *entries, size_t n)
{
	const struct table t = {
		.map = bpf_map__fd(l->connect->maps.owners),
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(uint64_t),
		.compare = compare_owner,
	};
	int err = table_apply(&t, entries, n, true, true);

	return err < 0 ? fail(l, err, "cannot write the declared ports") : 0;
}

/* The registry of listening ports */

bool loader_registry_walks(const struct loader *l)
{
	return l->walk != NULL;
}

bool loader_registry_is_complete(const struct loader *l, uint32_t index)
{
	return l->workloads[index].registry_seen == l->globals->registry_overflow + 1;
}

static int walk_read(const struct loader *l)
{
	char nothing[64];
	ssize_t n;
	int fd = bpf_iter_create(l->walk_link);

	if (fd < 0)
		return -errno;
	while ((n = read(fd, nothing, sizeof nothing)) > 0 || (n < 0 && errno == EAGAIN))
		;
	n = n < 0 ? -errno : 0;
	close(fd);
	return (int)n;
}

int loader_registry_walk(struct loader *l, uint64_t netns, const uint32_t *indexes, size_t n)
{
	struct globals *g = l->globals;
	uint64_t overflow = __atomic_load_n(&g->registry_overflow, __ATOMIC_SEQ_CST);
	int err;

	if (l->walk == NULL)
		return -EOPNOTSUPP;
	g->walk_netns = netns;
	g->walk_epoch += g->walk_epoch == UINT32_MAX ? 2 : 1; /* 0 is: never */
	__atomic_store_n(&g->walk_failed, 0, __ATOMIC_SEQ_CST);
	err = walk_read(l);
	if (err == 0 && __atomic_load_n(&g->walk_failed, __ATOMIC_SEQ_CST) != 0)
		err = -ENOSPC;
	for (size_t i = 0; i < n && err == 0; i++) {
		struct workload *w = &l->workloads[indexes[i]];

		__atomic_store_n(&w->registry_epoch, g->walk_epoch, __ATOMIC_SEQ_CST);
		__atomic_store_n(&w->registry_seen, overflow + 1, __ATOMIC_SEQ_CST);
	}
	return err;
}

/* What no namespace of a workload counts on any more. */
static void port_sweep(int map, const void *key, void *arg)
{
	struct loader *l = arg;
	const struct port_key *k = key;
	struct port p;
	uint32_t index;

	if (bpf_map_lookup_elem(map, key, &p) < 0 || p.live != 0)
		return;
	if (bpf_map_lookup_elem(bpf_map__fd(l->connect->maps.places), &k->netns, &index) == 0 &&
	    index < WORKLOADS_MAX && p.walked == l->workloads[index].registry_epoch)
		return;
	bpf_map_delete_elem(map, key);
}

void loader_registry_sweep(struct loader *l)
{
	for (uint32_t i = 0; i < WORKLOADS_MAX; i++)
		__atomic_store_n(&l->workloads[i].registry_seen, 0, __ATOMIC_SEQ_CST);
	keys_each(bpf_map__fd(l->connect->maps.ports), sizeof(struct port_key), port_sweep, l);
}

/* What the kernel says */

struct slot *loader_slots(struct loader *l, uint32_t *count)
{
	*count = l->slot_count;
	return l->slots;
}

struct dial *loader_dials(struct loader *l, uint32_t *count)
{
	*count = DIALS(l->slot_count);
	return l->dials;
}

struct globals *loader_globals(struct loader *l)
{
	return l->globals;
}

int loader_events_fd(struct loader *l)
{
	return ring_buffer__epoll_fd(l->ring);
}

int loader_events_drain(struct loader *l, void (*take)(void *arg, const struct event *e), void *arg)
{
	int n;

	l->take = take;
	l->take_arg = arg;
	n = ring_buffer__consume(l->ring);
	return n < 0 ? fail(l, n, "cannot read the ring of events") : n;
}

void loader_counters(struct loader *l, uint64_t counts[REASON_MAX])
{
	int map = bpf_map__fd(l->connect->maps.counters);
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values = cpus > 0 ? calloc((size_t)cpus, sizeof *values) : NULL;

	memset(counts, 0, REASON_MAX * sizeof *counts);
	for (uint32_t i = 0; values != NULL && i < REASON_MAX; i++)
		if (bpf_map_lookup_elem(map, &i, values) == 0)
			for (int cpu = 0; cpu < cpus; cpu++)
				counts[i] += values[cpu];
	free(values);
}

static bool link_attached(const struct loader *l, const char *prefix, const char *name)
{
	int fd = pin_open(l, prefix, name);
	uint64_t where = 0;

	if (fd < 0)
		return false;
	if (link_info(fd, &where) < 0)
		where = 0;
	close(fd);
	return where != 0;
}

size_t loader_state(struct loader *l, struct loader_state *state, size_t n)
{
	struct cgroup_link links[LINKS];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir;

	links_list(l, links);
	for (; count < LINKS; count++) {
		if (count >= n)
			continue;
		snprintf(state[count].name, sizeof state->name, "%s", links[count].name);
		state[count].attached = link_attached(l, LINK_PREFIX, links[count].name);
	}
	dir = opendir(l->pins);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, INBOUND_PREFIX, strlen(INBOUND_PREFIX)) != 0)
			continue;
		if (count < n) {
			snprintf(state[count].name, sizeof state->name, "%.31s", entry->d_name);
			state[count].attached = link_attached(l, "", entry->d_name);
		}
		count++;
	}
	if (dir != NULL)
		closedir(dir);
	return count;
}
