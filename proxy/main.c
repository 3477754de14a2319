/* SPDX-License-Identifier: Apache-2.0 */
/* shuntd: options, privileges, start order; stop order is its mirror image. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "proxy/cgroup.h"
#include "proxy/control.h"
#include "proxy/log.h"
#include "proxy/notify.h"
#include "proxy/privilege.h"
#include "proxy/version.h"

static struct {
	const char *config_dir;
	const char *name;
	const char *bpffs;
	const char *state_dir;
	char run_dir[PATH_MAX];
	char cgroup_root[PATH_MAX];
	char pin_dir[PATH_MAX];
} settings = {
	.config_dir = "/etc/shunt",
	.name = "default",
	.bpffs = "/sys/fs/bpf",
};
static char default_state_dir[64];

static const char usage[] =
	"usage: shuntd [OPTIONS]\n"
	"\n"
	"The node proxy of the shunt service mesh: captures the traffic of local workloads,\n"
	"enforces policy, and logs where the time of each request went.\n"
	"\n"
	"  --config DIR        documents and shunt.yaml (default /etc/shunt)\n"
	"  --name NAME         of this daemon, where several run on one machine (default)\n"
	"  --run-dir DIR       admin socket and lock (default /run/shunt, or /run/shunt-NAME)\n"
	"  --state-dir DIR     added workloads (default /var/lib/shunt, or /var/lib/shunt-NAME)\n"
	"  --bpffs DIR         bpf file system for pins (default /sys/fs/bpf)\n"
	"  --cgroup-root DIR   where cgroup2 is mounted (default: found)\n"
	"  --debug             say more on stderr\n"
	"  --help, --version\n"
	"\n"
	"Examples:\n"
	"  shunt config validate /etc/shunt && shuntd --config /etc/shunt\n"
	"  shuntd --config ./config/examples/demo --name demo\n"
	"\n"
	"SIGHUP reads the documents again, SIGUSR1 opens the access log again. SIGTERM lets open\n"
	"connections end (drainTimeout) and stops; a second one stops at once. After a stop or a\n"
	"crash what would be proxied meets onUnavailable (deny, unless documents say allow) until\n"
	"shuntd runs again; `shunt detach` releases everything. See shuntd(8).\n";

static int copy(char *to, size_t size, const char *from)
{
	return snprintf(to, size, "%s", from) < (int)size ? 0 : -ENAMETOOLONG;
}

static int name_is_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= 32 && name[n] == '\0';
}

static void settings_complete(void)
{
	if (settings.run_dir[0] == '\0')
		snprintf(settings.run_dir, sizeof settings.run_dir,
			 strcmp(settings.name, "default") == 0 ? "/run/shunt" : "/run/shunt-%s",
			 settings.name);
	if (settings.state_dir == NULL) {
		snprintf(default_state_dir, sizeof default_state_dir,
			 strcmp(settings.name, "default") == 0 ? "/var/lib/shunt"
							       : "/var/lib/shunt-%s",
			 settings.name);
		settings.state_dir = default_state_dir;
	}
	if (settings.cgroup_root[0] == '\0' &&
	    cgroup_find_root(settings.cgroup_root, sizeof settings.cgroup_root) < 0) {
		fprintf(stderr, "shuntd: no cgroup2 is mounted; mount one (mount -t cgroup2 none "
				"/sys/fs/cgroup) or name it by --cgroup-root\n");
		exit(1);
	}
	snprintf(settings.pin_dir, sizeof settings.pin_dir, "%.3800s/shunt/%s", settings.bpffs,
		 settings.name);
}

static void parse(int argc, char **argv)
{
	enum { CONFIG = 256, NAME, RUN_DIR, STATE_DIR, BPFFS, CGROUP_ROOT, DEBUG, HELP, VERSION };
	static const struct option options[] = {
		{"config", required_argument, NULL, CONFIG},
		{"name", required_argument, NULL, NAME},
		{"run-dir", required_argument, NULL, RUN_DIR},
		{"state-dir", required_argument, NULL, STATE_DIR},
		{"bpffs", required_argument, NULL, BPFFS},
		{"cgroup-root", required_argument, NULL, CGROUP_ROOT},
		{"debug", no_argument, NULL, DEBUG},
		{"help", no_argument, NULL, HELP},
		{"version", no_argument, NULL, VERSION},
		{0},
	};
	int option, err = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0 && err == 0) {
		switch (option) {
		case CONFIG:
			settings.config_dir = optarg;
			break;
		case NAME:
			settings.name = optarg;
			break;
		case RUN_DIR:
			err = copy(settings.run_dir, sizeof settings.run_dir, optarg);
			break;
		case STATE_DIR:
			settings.state_dir = optarg;
			break;
		case BPFFS:
			settings.bpffs = optarg;
			break;
		case CGROUP_ROOT:
			err = copy(settings.cgroup_root, sizeof settings.cgroup_root, optarg);
			break;
		case DEBUG:
			log_level_set(LOG_LEVEL_DEBUG);
			break;
		case HELP:
			fputs(usage, stdout);
			exit(0);
		case VERSION:
			puts("shuntd " SHUNT_VERSION);
			exit(0);
		default:
			exit(2); /* getopt has said why */
		}
	}
	if (err < 0 || optind < argc || !name_is_valid(settings.name)) {
		fprintf(stderr, "shuntd: %s; see shuntd --help\n",
			err < 0		? "a path is too long"
			: optind < argc ? "arguments are options only"
					: "--name: 1 to 32 of a-z, 0-9 and -");
		exit(2);
	}
}

/* One daemon of a name: the lock lives as long as the process. */
static int take_lock(void)
{
	char path[PATH_MAX + 8];
	int fd;

	if (mkdir(settings.run_dir, 0755) < 0 && errno != EEXIST) {
		log_err("%s", settings.run_dir);
		return -errno;
	}
	snprintf(path, sizeof path, "%s/lock", settings.run_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		log_err("%s", path);
		return -errno;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		log_errx("another shuntd of the name %s runs (%s is locked); give this one a "
			 "--name of its own",
			 settings.name, path);
		return -EBUSY;
	}
	return 0;
}

static int need_bpffs(void)
{
	struct statfs fs;

	if (statfs(settings.bpffs, &fs) < 0) {
		log_err("%s", settings.bpffs);
		return -errno;
	}
	if (fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", settings.bpffs, "bpf", 0, "mode=0700") < 0) {
		log_err("%s is not a bpf file system and none could be mounted there",
			settings.bpffs);
		return -errno;
	}
	log_info("mounted a bpf file system on %s", settings.bpffs);
	return 0;
}

/* Every connection is two descriptors; what the system allows is what we take. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int prepare(struct control_options *options)
{
	int err = need_bpffs();

	if (err < 0)
		return err;
	err = cgroup_enter(settings.cgroup_root, settings.name, &options->self_cgroup);
	if (err == -EBUSY)
		log_errx("%s/shunt-%s holds another process; move it away, the daemon's cgroup is "
			 "exempt from policy",
			 settings.cgroup_root, settings.name);
	else if (err < 0)
		log_errx("own cgroup below %s: %s", settings.cgroup_root, strerror(-err));
	return err;
}

int main(int argc, char **argv)
{
	static struct control control;
	static struct capability capability;
	struct control_options options;
	int err;

	parse(argc, argv);
	settings_complete();
	signal(SIGPIPE, SIG_IGN);
	umask(0027);
	raise_descriptors();
	options = (struct control_options){
		.config_dir = settings.config_dir,
		.name = settings.name,
		.run_dir = settings.run_dir,
		.state_dir = settings.state_dir,
		.pin_dir = settings.pin_dir,
		.cgroup_root = settings.cgroup_root,
		.capability = &capability,
	};
	err = take_lock();
	if (err == 0)
		err = control_read(&control, &options);
	/* Listeners alone need none. Of whom no folder was let in it says what he lacks. */
	if (err == -EACCES || err == -EPERM)
		err = privilege_check() < 0 ? -EPERM : err;
	else if (err == 0 && control.snapshot.options.capture)
		err = privilege_check();
	if (err == 0)
		capability_start(&capability);
	if (err == 0 && control.snapshot.options.capture)
		err = prepare(&options);
	if (err == 0)
		err = control_start(&control);
	if (err == 0) {
		log_info("shuntd " SHUNT_VERSION " runs, revision %llu",
			 (unsigned long long)control.revision);
		notify_ready();
		control_run(&control);
		control_stop(&control);
	}
	cgroup_leave();
	return err < 0;
}
