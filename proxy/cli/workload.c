/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shunt workload: tells the running daemon of local processes, releases them again, and lets
 * one workload pass unjudged for a while. What is wrong with the arguments is said before the
 * daemon is asked.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/kinds/kind.h"
#include "proxy/cgroup.h"
#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"
#include "proxy/codec/codec.h"

#define ASK_SECONDS 60
#define BYPASS_MOST (24 * 3600U)
#define REASON_MOST 200U
#define CELL_MOST 100U

struct asked {
	const char *argv0; /* "shunt workload add" */
	const char *who; /* NAMESPACE/NAME */
	char namespace[64];
	const char *name;
	bool json;
	/* add */
	unsigned selectors; /* how many were given */
	const char *netns, *pid, *cgroup, *unit;
	const char **labels;
	size_t label_count;
	const char *account;
	const char *unavailable;
	/* remove */
	bool if_exists;
	/* bypass */
	const char *duration;
	bool end;
	const char *reason;
};

/* Says what is wrong with the arguments; CLI_USAGE. */
__attribute__((format(printf, 2, 3))) static int wrong(const struct asked *a, const char *format,
						       ...)
{
	va_list args;

	fprintf(stderr, "%s: ", a->argv0);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return CLI_USAGE;
}

/* --- asking --- */

static void target_begin(struct text *target, const char *path, const struct asked *a)
{
	text_add(target, path);
	client_query(target, "namespace", a->namespace);
	client_query(target, "name", a->name);
}

/* The daemon's refusal, and the reason. */
static void print_refusal(const struct asked *a, const cJSON *json)
{
	char *error = cli_safe(client_string(json, "error"), 500);

	client_print_findings(stderr, cJSON_GetObjectItemCaseSensitive(json, "findings"));
	fprintf(stderr, "shunt: %s: %s\n", a->who, *error != '\0' ? error : "refused");
	free(error);
}

static bool is_true(const cJSON *json, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, key));
}

/* Posts `target` (freed) and shows the answer, a success by `print`. */
static int command(const struct asked *a, struct text *target,
		   void (*print)(const struct asked *a, const cJSON *json))
{
	struct client_answer answer;
	cJSON *json = NULL;
	bool absent;
	int status;

	if (text_failed(target) || target->len > codec_limits_default.target) {
		text_free(target);
		return wrong(a, "these are too many or too long arguments");
	}
	status = client_json("POST", target->p, ASK_SECONDS, "ok", &answer, &json);
	text_free(target);
	if (status != CLI_OK)
		return status;
	absent = a->if_exists && is_true(json, "missing");
	if (a->json) {
		fputs(answer.body.p, stdout); /* it ends with a newline */
	} else if (is_true(json, "ok")) {
		client_print_findings(stderr, cJSON_GetObjectItemCaseSensitive(json, "findings"));
		print(a, json);
	} else if (!absent) {
		print_refusal(a, json);
	}
	status = is_true(json, "ok") || absent ? CLI_OK : CLI_NO;
	cJSON_Delete(json);
	text_free(&answer.body);
	return status;
}

/* --- add: which processes --- */

/* Two things tell a namespace from a later one that has the same path in /proc: its inode
 * number, and the boot in which that number means anything. */
static int add_fingerprint(const struct asked *a, struct text *target, const char *path)
{
	static const char boot_id[] = "/proc/sys/kernel/random/boot_id";
	char boot[64] = "", inode[24];
	struct stat st;
	FILE *f;

	if (stat(path, &st) < 0)
		return wrong(a, "%s: %s", path, strerror(errno));
	f = fopen(boot_id, "re");
	if (f == NULL || fgets(boot, sizeof boot, f) == NULL)
		boot[0] = '\0';
	if (f != NULL)
		fclose(f);
	boot[strcspn(boot, "\n")] = '\0';
	if (boot[0] == '\0')
		return wrong(a, "%s cannot be read", boot_id);
	snprintf(inode, sizeof inode, "%llu", (unsigned long long)st.st_ino);
	client_query(target, "inode", inode);
	client_query(target, "boot", boot);
	return CLI_OK;
}

static void add_selector(struct text *target, const char *kind, const char *what)
{
	struct text selector = {0};

	text_adds(&selector, kind, what, NULL);
	client_query(target, "selector", text_string(&selector));
	target->failed |= text_failed(&selector);
	text_free(&selector);
}

static int add_pid(const struct asked *a, struct text *target)
{
	size_t digits = strspn(a->pid, "0123456789");
	char path[64];
	struct stat st;

	if (digits == 0 || digits > 10 || a->pid[digits] != '\0')
		return wrong(a, "--pid takes the number of a process, not '%s'", a->pid);
	snprintf(path, sizeof path, "/proc/%s/ns/net", a->pid);
	if (stat(path, &st) < 0 && errno == ENOENT)
		return wrong(a, "there is no process %s", a->pid);
	add_selector(target, "netns:", path);
	return add_fingerprint(a, target, path);
}

/* The path of a link which is not text but leads straight to a namespace, as those of /proc
 * are: realpath() fails on it, so only its folder is made absolute. */
static bool resolve_link(const char *path, char *real)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash != NULL ? slash + 1 : path;
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;
	char folder[PATH_MAX];

	if (len >= sizeof folder)
		return false;
	memcpy(folder, path, len);
	folder[len] = '\0';
	if (realpath(slash == NULL ? "." : len == 0 ? "/" : folder, real) == NULL)
		return false;
	len = strlen(real);
	return snprintf(real + len, PATH_MAX - len, "/%s", base) < (int)(PATH_MAX - len);
}

static int add_netns(const struct asked *a, struct text *target)
{
	char real[PATH_MAX], own[32];
	struct stat st;

	if (stat(a->netns, &st) < 0)
		return wrong(a, "--netns %s: %s", a->netns, strerror(errno));
	if (realpath(a->netns, real) != NULL) {
		add_selector(target, "netns:", real);
		return CLI_OK;
	}
	if (!resolve_link(a->netns, real))
		return wrong(a, "--netns %s: no absolute path leads there", a->netns);
	snprintf(own, sizeof own, "/proc/%d/", (int)getpid());
	if (strncmp(real, own, strlen(own)) == 0)
		return wrong(a, "--netns %s is this command's own, which ends at once; try --pid",
			     a->netns);
	add_selector(target, "netns:", real);
	return add_fingerprint(a, target, real);
}

/* What follows the root of cgroup2 in the real path, from '/'; NULL when it is no cgroup. */
static const char *below(const char *root, const char *path, char *real)
{
	size_t len = strlen(root);
	struct stat st;

	if (realpath(path, real) == NULL || stat(real, &st) < 0 || !S_ISDIR(st.st_mode))
		return NULL;
	if (strncmp(real, root, len) != 0 || (real[len] != '/' && real[len] != '\0'))
		return NULL;
	return real[len] == '/' ? real + len : "/";
}

/* Either a folder, or as documents write it: from the root of cgroup2. */
static int add_cgroup(const struct asked *a, struct text *target)
{
	char root[PATH_MAX], real[PATH_MAX], joined[2 * PATH_MAX];
	const char *path;

	if (cgroup_find_root(root, sizeof root) < 0)
		return wrong(a, "cgroup2 is not mounted here");
	path = below(root, a->cgroup, real);
	if (path == NULL && a->cgroup[0] == '/') {
		snprintf(joined, sizeof joined, "%s%s", root, a->cgroup);
		path = below(root, joined, real);
	}
	if (path == NULL)
		return wrong(a, "--cgroup %s: no such cgroup below %s", a->cgroup, root);
	if (strcmp(path, "/") == 0)
		return wrong(a, "--cgroup %s: the root holds the whole machine", a->cgroup);
	add_selector(target, "cgroup:", path);
	return CLI_OK;
}

/* As systemctl takes a name: without a type, it is that of a service. */
static int add_unit(const struct asked *a, struct text *target)
{
	static const char *const types[] = {".service", ".scope", ".slice"};
	const char *dot = strrchr(a->unit, '.');
	bool typed = false;
	char unit[256];
	int len;

	for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
		typed |= strcmp(dot, types[i]) == 0;
	len = snprintf(unit, sizeof unit, "%s%s", a->unit, typed ? "" : ".service");
	if (dot == a->unit || a->unit[0] == '\0' || len >= (int)sizeof unit ||
	    strchr(a->unit, '/') != NULL)
		return wrong(a, "'%s' is not the name of a systemd unit", a->unit);
	add_selector(target, "systemd:id:", unit);
	return CLI_OK;
}

static int add_selected(const struct asked *a, struct text *target)
{
	if (a->netns != NULL)
		return add_netns(a, target);
	if (a->pid != NULL)
		return add_pid(a, target);
	return a->cgroup != NULL ? add_cgroup(a, target) : add_unit(a, target);
}

/* --- add: who they are --- */

static size_t label_key_length(const char *label)
{
	return strcspn(label, "=");
}

static bool same_key(const char *x, const char *y)
{
	size_t len = label_key_length(x);

	return len == label_key_length(y) && strncmp(x, y, len) == 0;
}

static int check_label(const struct asked *a, size_t i)
{
	const char *label = a->labels[i];
	size_t len = label_key_length(label);
	char key[320];

	snprintf(key, sizeof key, "%.*s", (int)(len < sizeof key ? len : sizeof key), label);
	if (label[len] == '\0')
		return wrong(a, "--label takes KEY=VALUE, not '%s'", label);
	if (!label_key_valid(key))
		return wrong(a, "'%s' is not a label key", key);
	if (!label_value_valid(label + len + 1))
		return wrong(a,
			     "'%s' is not a label value (at most 63 letters, digits, '-', '_', "
			     "'.')",
			     label + len + 1);
	for (size_t j = 0; j < i; j++)
		if (same_key(a->labels[j], label))
			return wrong(a, "label %s is given twice", key);
	return CLI_OK;
}

static int check_add(const struct asked *a)
{
	int status = CLI_OK;

	if (a->selectors != 1)
		return wrong(a, "exactly one of --netns, --pid, --cgroup and --systemd is needed");
	for (size_t i = 0; status == CLI_OK && i < a->label_count; i++)
		status = check_label(a, i);
	if (status != CLI_OK)
		return status;
	if (a->account != NULL && !name_valid(a->account, 63))
		return wrong(a, "'%s' is not the name of a service account", a->account);
	if (a->unavailable != NULL && strcmp(a->unavailable, "deny") != 0 &&
	    strcmp(a->unavailable, "allow") != 0)
		return wrong(a, "--on-unavailable is deny or allow, not '%s'", a->unavailable);
	return CLI_OK;
}

/* The addresses, parted by spaces, or `none`; free() it. */
static char *addresses_of(const cJSON *workload, const char *none)
{
	const cJSON *item;
	struct text t = {0};
	char *safe;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(workload, "addresses"))
		if (cJSON_IsString(item))
			text_adds(&t, t.len > 0 ? " " : "", item->valuestring, NULL);
	safe = cli_safe(t.len > 0 ? text_string(&t) : none, CELL_MOST);
	text_free(&t);
	return safe;
}

static void print_seconds(double seconds)
{
	if (seconds < 1)
		printf("%.*f ms", seconds < 0.01 ? 1 : 0, seconds * 1e3);
	else
		printf("%.1f s", seconds);
}

/* shop/api captured (netns /run/netns/api, 10.0.0.7 fd00::7, 12 ms); what the answer lacks
 * is left out. */
static void print_added(const struct asked *a, const cJSON *json)
{
	static const char *const kinds[] = {"netns", "cgroup"};
	const cJSON *workload = cJSON_GetObjectItemCaseSensitive(json, "workload");
	const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(json, "seconds");
	char *state = cli_safe(client_string(workload, "state"), CELL_MOST);
	char *addresses = addresses_of(workload, "");
	const char *between = " (";

	printf("%s %s", a->who, *state != '\0' ? state : "added");
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		char *path = cli_safe(client_string(workload, kinds[i]), 500);

		if (*path != '\0') {
			printf("%s%s %s", between, kinds[i], path);
			between = ", ";
		}
		free(path);
	}
	if (*addresses != '\0') {
		printf("%s%s", between, addresses);
		between = ", ";
	}
	if (cJSON_IsNumber(seconds)) {
		fputs(between, stdout);
		print_seconds(seconds->valuedouble);
		between = ", ";
	}
	puts(*between == ',' ? ")" : "");
	free(state);
	free(addresses);
}

static int workload_add(const struct asked *a)
{
	struct text target = {0};
	int status = check_add(a);

	if (status == CLI_OK) {
		target_begin(&target, "/workload/add", a);
		status = add_selected(a, &target);
	}
	if (status != CLI_OK) {
		text_free(&target);
		return status;
	}
	for (size_t i = 0; i < a->label_count; i++)
		client_query(&target, "label", a->labels[i]);
	if (a->account != NULL)
		client_query(&target, "serviceAccount", a->account);
	if (a->unavailable != NULL)
		client_query(&target, "onUnavailable", a->unavailable);
	return command(a, &target, print_added);
}

/* --- remove --- */

static void print_removed(const struct asked *a, const cJSON *json)
{
	printf("%s removed%s\n", a->who,
	       is_true(json, "documented") ? "; a document of that name remains, and holds again"
					   : "");
}

static int workload_remove(const struct asked *a)
{
	struct text target = {0};

	target_begin(&target, "/workload/remove", a);
	return command(a, &target, print_removed);
}

/* --- bypass --- */

/* A whole number with s, m or h; 0 when it is none, or out of range. */
static unsigned read_seconds(const char *s)
{
	static const char units[] = "smh";
	static const unsigned seconds[] = {1, 60, 3600};
	const char *unit;
	unsigned n = 0;

	for (; *s >= '0' && *s <= '9' && n <= BYPASS_MOST; s++)
		n = n * 10 + (unsigned)(*s - '0');
	unit = *s != '\0' ? strchr(units, *s) : NULL;
	if (unit == NULL || s[1] != '\0' || n > BYPASS_MOST)
		return 0;
	n *= seconds[unit - units];
	return n <= BYPASS_MOST ? n : 0;
}

static void print_bypassed(const struct asked *a, const cJSON *json)
{
	char *until = cli_safe(client_string(json, "until"), CELL_MOST);

	if (a->end)
		printf("%s is bypassed no longer: policy and proxy apply to its new connections\n",
		       a->who);
	else
		printf("%s is bypassed %s %s: neither policy nor proxy applies to its new "
		       "connections\n",
		       a->who, *until != '\0' ? "until" : "for",
		       *until != '\0' ? until : a->duration);
	free(until);
}

static int workload_bypass(const struct asked *a)
{
	struct text target = {0};
	unsigned seconds = 0;
	char number[16];

	if (a->end == (a->duration != NULL))
		return wrong(a, "one of --for and --end is needed: nothing is bypassed for ever");
	if (!a->end) {
		seconds = read_seconds(a->duration);
		if (seconds == 0)
			return wrong(a,
				     "--for takes a duration of at most 24h, such as 30s, 10m or "
				     "2h, not '%s'",
				     a->duration);
	}
	if (a->reason != NULL && strlen(a->reason) > REASON_MOST)
		return wrong(a, "a reason has at most %u bytes", REASON_MOST);
	snprintf(number, sizeof number, "%u", seconds);
	target_begin(&target, "/workload/bypass", a);
	client_query(&target, "seconds", number);
	if (a->reason != NULL)
		client_query(&target, "reason", a->reason);
	return command(a, &target, print_bypassed);
}

/* --- list --- */

static char *dash(const char *text)
{
	return cli_safe(*text != '\0' ? text : "-", CELL_MOST);
}

static char *name_of(const cJSON *workload)
{
	const char *namespace = client_string(workload, "namespace");
	struct text t = {0};
	char *safe;

	text_adds(&t, namespace, *namespace != '\0' ? "/" : "", client_string(workload, "name"),
		  NULL);
	safe = dash(text_string(&t));
	text_free(&t);
	return safe;
}

/* As a document writes it. */
static char *selector_of(const cJSON *workload)
{
	const char *selector = client_string(workload, "selector");
	const char *netns = client_string(workload, "netns");
	const char *cgroup = client_string(workload, "cgroup");
	struct text t = {0};
	char *safe;

	if (*selector != '\0')
		text_add(&t, selector);
	else if (*netns != '\0')
		text_adds(&t, "netns:", netns, NULL);
	else if (*cgroup != '\0')
		text_adds(&t, "cgroup:", cgroup, NULL);
	safe = dash(text_string(&t));
	text_free(&t);
	return safe;
}

static void note_add(struct text *t, const char *before, const char *text)
{
	text_adds(t, t->len > 0 ? "; " : "", before, text, NULL);
}

/* What one should know of it beyond its state. */
static char *note_of(const cJSON *workload)
{
	const cJSON *slots = cJSON_GetObjectItemCaseSensitive(workload, "slots");
	const char *why = client_string(workload, "why");
	const char *until = client_string(workload, "bypassUntil");
	struct text t = {0};
	char *safe;

	if (*until != '\0')
		note_add(&t, "BYPASSED until ", until);
	if (*why != '\0')
		note_add(&t, "", why);
	if (strcmp(client_string(workload, "registry"), "incomplete") == 0)
		note_add(&t, "", "its registry of ports is incomplete");
	if (strcmp(client_string(workload, "source"), "added") == 0)
		note_add(&t, "", "added");
	if (cJSON_IsNumber(slots) && slots->valueint > 0) {
		text_add(&t, t.len > 0 ? "; " : "");
		text_add_number(&t, (uint64_t)slots->valueint);
		text_add(&t, " slots in use");
	}
	safe = dash(text_string(&t));
	text_free(&t);
	return safe;
}

static enum cli_colour state_colour(const cJSON *workload)
{
	const char *state = client_string(workload, "state");

	if (strcmp(state, "captured") == 0 && *client_string(workload, "bypassUntil") == '\0')
		return CLI_GREEN;
	return strcmp(state, "captured") == 0 || strcmp(state, "absent") == 0 ? CLI_YELLOW
									      : CLI_RED;
}

static void print_workloads(const cJSON *workloads)
{
	static const char *const heads[] = {"WORKLOAD",	 "STATE",	   "SELECTOR",
					    "ADDRESSES", "ON-UNAVAILABLE", "NOTE"};
	struct cli_table table = {.columns = sizeof heads / sizeof heads[0]};
	const cJSON *w;

	for (size_t i = 0; i < table.columns; i++)
		cli_table_add(&table, CLI_PLAIN, dash(heads[i]));
	cJSON_ArrayForEach(w, workloads) {
		cli_table_add(&table, CLI_PLAIN, name_of(w));
		cli_table_add(&table, state_colour(w), dash(client_string(w, "state")));
		cli_table_add(&table, CLI_PLAIN, selector_of(w));
		cli_table_add(&table, CLI_PLAIN, addresses_of(w, "-"));
		cli_table_add(&table, CLI_PLAIN, dash(client_string(w, "onUnavailable")));
		cli_table_add(&table, CLI_PLAIN, note_of(w));
	}
	cli_table_print(&table);
}

static int workload_list(const struct asked *a)
{
	struct client_answer answer;
	const cJSON *workloads;
	cJSON *json;
	char *text;
	int status;

	status = client_json("GET", "/status", ASK_SECONDS, "workloads", &answer, &json);
	if (status != CLI_OK)
		return status;
	workloads = cJSON_GetObjectItemCaseSensitive(json, "workloads");
	if (a->json) {
		text = cJSON_PrintUnformatted(workloads);
		puts(text != NULL ? text : "[]");
		free(text);
	} else {
		print_workloads(workloads);
	}
	cJSON_Delete(json);
	text_free(&answer.body);
	return CLI_OK;
}

/* --- arguments --- */

enum {
	OPTION_NETNS = 1,
	OPTION_PID,
	OPTION_CGROUP,
	OPTION_SYSTEMD,
	OPTION_LABEL,
	OPTION_ACCOUNT,
	OPTION_UNAVAILABLE,
	OPTION_IF_EXISTS,
	OPTION_FOR,
	OPTION_END,
	OPTION_REASON,
};

#define OUTPUT_OPTION                                                                              \
	{                                                                                          \
		"output", required_argument, NULL, 'o'                                             \
	}

static const struct option add_options[] = {
	CLI_COMMON_OPTIONS,
	OUTPUT_OPTION,
	{"netns", required_argument, NULL, OPTION_NETNS},
	{"pid", required_argument, NULL, OPTION_PID},
	{"cgroup", required_argument, NULL, OPTION_CGROUP},
	{"systemd", required_argument, NULL, OPTION_SYSTEMD},
	{"label", required_argument, NULL, OPTION_LABEL},
	{"service-account", required_argument, NULL, OPTION_ACCOUNT},
	{"on-unavailable", required_argument, NULL, OPTION_UNAVAILABLE},
	{NULL, 0, NULL, 0},
};

static const char add_help[] =
	"Usage: shunt workload add NAMESPACE/NAME --netns PATH | --pid N | --cgroup PATH |\n"
	"                          --systemd UNIT [OPTION]...\n\n"
	"Makes local processes a workload of the running daemon, and returns when their\n"
	"traffic is captured. It stays one until `shunt workload remove`, also over a restart\n"
	"of the daemon.\n\n"
	"  --netns PATH         the network namespace at PATH, which must exist\n"
	"  --pid N              the network namespace that process N is in now; a later\n"
	"                       process of the same number is not taken for it\n"
	"  --cgroup PATH        the processes of a cgroup and of those below it: a folder of\n"
	"                       cgroup2, or its path from the root of cgroup2\n"
	"  --systemd UNIT       the processes of a unit; without a type, of UNIT.service\n"
	"  --label KEY=VALUE    what policies select it by; may be repeated. Without labels a\n"
	"                       Workload document of that name must say who it is\n"
	"  --service-account S  whose identity it has (default: default)\n"
	"  --on-unavailable deny|allow\n"
	"                       what its new connections meet while the daemon is away\n"
	"  -o, --output json    the daemon's answer as it is\n"
	"  --name NAME, --run-dir DIR  which daemon\n\n"
	"Exit status: 0 captured, 1 refused, 2 wrong usage (also: nothing is at PATH), 3 the\n"
	"daemon does not answer.\n\n"
	"Examples:\n"
	"  shunt workload add shop/api --netns /run/netns/api --label app=api\n"
	"  shunt workload add shop/web --pid $(docker inspect -f '{{.State.Pid}}' web) \\\n"
	"      --label app=web --service-account web\n"
	"  shunt workload add shop/db --systemd postgresql --label app=db\n";

static const struct option remove_options[] = {
	CLI_COMMON_OPTIONS,
	OUTPUT_OPTION,
	{"if-exists", no_argument, NULL, OPTION_IF_EXISTS},
	{NULL, 0, NULL, 0},
};

static const char remove_help[] =
	"Usage: shunt workload remove NAMESPACE/NAME [--if-exists] [-o json]\n\n"
	"Takes back what `shunt workload add` said. Where a document of that name remains, what\n"
	"the document says holds again; otherwise the traffic of those processes flows as if\n"
	"shunt were not there.\n\n"
	"  --if-exists        nothing of that name was added: well, too\n"
	"  -o, --output json  the daemon's answer as it is\n"
	"  --name NAME, --run-dir DIR  which daemon\n\n"
	"Exit status: 0 removed, 1 refused or not there, 2 wrong usage, 3 the daemon does not\n"
	"answer.\n\n"
	"Examples:\n"
	"  shunt workload remove shop/api\n"
	"  shunt workload remove shop/api --if-exists\n";

static const struct option bypass_options[] = {
	CLI_COMMON_OPTIONS,
	OUTPUT_OPTION,
	{"for", required_argument, NULL, OPTION_FOR},
	{"end", no_argument, NULL, OPTION_END},
	{"reason", required_argument, NULL, OPTION_REASON},
	{NULL, 0, NULL, 0},
};

static const char bypass_help[] =
	"Usage: shunt workload bypass NAMESPACE/NAME --for DURATION [--reason TEXT] [-o json]\n"
	"       shunt workload bypass NAMESPACE/NAME --end [-o json]\n\n"
	"For a while neither policy nor proxy applies to new connections of this workload. It\n"
	"ends by itself: nothing is bypassed for ever. `shunt workload list` shows it.\n\n"
	"  --for DURATION     30s, 10m, 2h; at most 24h. Said again, it begins anew\n"
	"  --end              ends it now\n"
	"  --reason TEXT      for the daemon's log\n"
	"  -o, --output json  the daemon's answer as it is\n"
	"  --name NAME, --run-dir DIR  which daemon\n\n"
	"Exit status: 0 done, 1 refused, 2 wrong usage, 3 the daemon does not answer.\n\n"
	"Examples:\n"
	"  shunt workload bypass shop/api --for 10m --reason 'is it shunt?'\n"
	"  shunt workload bypass shop/api --end\n";

static const struct option list_options[] = {
	CLI_COMMON_OPTIONS,
	OUTPUT_OPTION,
	{NULL, 0, NULL, 0},
};

static const char list_help[] =
	"Usage: shunt workload list [-o json]\n\n"
	"The workloads of this node, from documents and added ones: where their processes are\n"
	"looked for, whether their traffic is captured, what new connections meet while the\n"
	"daemon is away, and what else one should know.\n\n"
	"  -o, --output json  an array, as in `shunt status -o json`\n"
	"  --name NAME, --run-dir DIR  which daemon\n\n"
	"Exit status: 0, 2 wrong usage, 3 the daemon does not answer.\n\n"
	"Examples:\n"
	"  shunt workload list\n"
	"  shunt workload list -o json | jq -r '.[] | select(.state != \"captured\").name'\n";

static const struct subverb {
	const char *name;
	int (*run)(const struct asked *a);
	const struct option *options;
	const char *help;
	bool named; /* takes NAMESPACE/NAME */
	const char *summary;
} subverbs[] = {
	{"add", workload_add, add_options, add_help, true, "capture local processes"},
	{"remove", workload_remove, remove_options, remove_help, true, "take that back"},
	{"bypass", workload_bypass, bypass_options, bypass_help, true,
	 "let one pass unjudged for a while"},
	{"list", workload_list, list_options, list_help, false, "what is captured, and what not"},
};
#define SUBVERBS (sizeof subverbs / sizeof subverbs[0])

static void print_help(void)
{
	printf("Usage: shunt workload add|remove|bypass|list ...\n\n"
	       "Steers what the running daemon captures, without documents and without a "
	       "reload.\n\n");
	for (size_t i = 0; i < SUBVERBS; i++)
		printf("  %-7s %s\n", subverbs[i].name, subverbs[i].summary);
	printf("\n`shunt workload add --help` and so on say more.\n\n"
	       "Examples:\n"
	       "  shunt workload add shop/api --netns /run/netns/api --label app=api\n"
	       "  shunt workload list\n"
	       "  shunt workload bypass shop/api --for 10m --reason 'is it shunt?'\n"
	       "  shunt workload remove shop/api\n");
}

static int take_selector(struct asked *a, const char **to)
{
	a->selectors++;
	*to = optarg;
	return CLI_OK;
}

static int take_option(struct asked *a, int option)
{
	switch (option) {
	case 'o':
		a->json = strcmp(optarg, "json") == 0;
		if (!a->json && strcmp(optarg, "text") != 0)
			return wrong(a, "'%s' is no format: text, json", optarg);
		return CLI_OK;
	case OPTION_NETNS:
		return take_selector(a, &a->netns);
	case OPTION_PID:
		return take_selector(a, &a->pid);
	case OPTION_CGROUP:
		return take_selector(a, &a->cgroup);
	case OPTION_SYSTEMD:
		return take_selector(a, &a->unit);
	case OPTION_LABEL:
		a->labels[a->label_count++] = optarg;
		return CLI_OK;
	case OPTION_ACCOUNT:
		a->account = optarg;
		return CLI_OK;
	case OPTION_UNAVAILABLE:
		a->unavailable = optarg;
		return CLI_OK;
	case OPTION_IF_EXISTS:
		a->if_exists = true;
		return CLI_OK;
	case OPTION_FOR:
		a->duration = optarg;
		return CLI_OK;
	case OPTION_END:
		a->end = true;
		return CLI_OK;
	case OPTION_REASON:
		a->reason = optarg;
		return CLI_OK;
	default:
		return CLI_USAGE; /* getopt has said it */
	}
}

/* The operand, where the subverb takes one. */
static int take_name(struct asked *a, int count, char *const *operands)
{
	const char *slash = count == 1 ? strchr(operands[0], '/') : NULL;
	size_t len = slash != NULL ? (size_t)(slash - operands[0]) : 0;

	if (count != 1)
		return wrong(a, "one NAMESPACE/NAME is needed");
	a->who = operands[0];
	if (slash == NULL)
		return wrong(a, "'%s' is not NAMESPACE/NAME", a->who);
	a->name = slash + 1;
	snprintf(a->namespace, sizeof a->namespace, "%.*s", (int)len, a->who);
	if (len >= sizeof a->namespace || !name_valid(a->namespace, 63))
		return wrong(a,
			     "'%.*s' is not a namespace (lower-case letters, digits, '-' and '.')",
			     (int)len, a->who);
	if (!name_valid(a->name, 253))
		return wrong(a, "'%s' is not a name (lower-case letters, digits, '-' and '.')",
			     a->name);
	return CLI_OK;
}

static int parse_and_run(const struct subverb *v, struct asked *a, int argc, char **argv)
{
	int status = CLI_OK, option;

	optind = 0;
	while (status == CLI_OK &&
	       (option = getopt_long(argc, argv, "ho:", v->options, NULL)) != -1) {
		if (option == 'h') {
			fputs(v->help, stdout);
			return CLI_OK;
		}
		if (!cli_common(option))
			status = take_option(a, option);
	}
	if (status == CLI_OK && v->named)
		status = take_name(a, argc - optind, argv + optind);
	else if (status == CLI_OK && optind < argc)
		status = wrong(a, "'%s' is one argument too many", argv[optind]);
	if (status == CLI_OK)
		return v->run(a);
	return cli_usage(argv[0]);
}

static int run_subverb(int argc, char **argv)
{
	char argv0[32];

	for (size_t i = 0; i < SUBVERBS; i++) {
		const struct subverb *v = &subverbs[i];
		struct asked a = {.argv0 = argv0};
		int status;

		if (strcmp(argv[0], v->name) != 0)
			continue;
		snprintf(argv0, sizeof argv0, "shunt workload %s", v->name);
		argv[0] = argv0;
		a.labels = cli_alloc((size_t)argc * sizeof *a.labels);
		status = parse_and_run(v, &a, argc, argv);
		free(a.labels);
		return status;
	}
	fprintf(stderr, "shunt workload: there is no '%s' of a workload\n", argv[0]);
	return cli_usage("shunt workload");
}

int cli_workload(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		if (cli_common(option))
			continue;
		if (option == 'h') {
			print_help();
			return CLI_OK;
		}
		return cli_usage(argv[0]);
	}
	if (optind == argc) {
		fprintf(stderr, "shunt workload: one of add, remove, bypass and list is missing\n");
		return cli_usage(argv[0]);
	}
	return run_subverb(argc - optind, argv + optind);
}
