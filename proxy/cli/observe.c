/* SPDX-License-Identifier: Apache-2.0 */
/* shunt observe: the access log, live, filtered, and readable. */
#define _GNU_SOURCE 1 /* asprintf() */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"
#include "proxy/stopwatch.h"

#define LAST_DEFAULT 20U
#define KEPT 4096U /* what the daemon keeps at most */

enum format {
	FORMAT_COLUMNS,
	FORMAT_JSONL,
	FORMAT_JSON,
};

struct filter {
	const char *verdict;
	const char *type;
	const char *from, *to; /* NAMESPACE/NAME, or NAME in any */
	const char *path_prefix;
	double min_latency; /* ns */
};

enum column {
	COLUMN_TIME,
	COLUMN_SOURCE,
	COLUMN_DESTINATION,
	COLUMN_PROTOCOL,
	COLUMN_SUMMARY,
	COLUMN_VERDICT,
	COLUMN_BY,
	COLUMN_TOTAL,
	COLUMN_WHERE,
	COLUMNS,
};

struct observe {
	struct filter filter;
	enum format format;
	bool follow;
	unsigned last;
	bool header_printed;
	size_t width[COLUMNS];
	char **kept; /* without follow: the last lines that match, a ring of `last` */
	size_t matched;
};

static void print_help(void)
{
	printf("Usage: shunt observe [-f] [--last N] [FILTER]... [-o FORMAT]\n\n"
	       "Requests, connections and kernel denials as they end: who, what, the verdict and\n"
	       "the rule behind it, how long it took and where that time went.\n\n"
	       "  -f, --follow       go on with new ones\n"
	       "  --last N           the last N that match (default %u; with -f and a filter: "
	       "those\n"
	       "                     that match among the last N; at most %u are kept)\n"
	       "  -o, --output FMT   columns (default), jsonl (a JSON object per line), or json\n"
	       "                     (one array; not with -f)\n"
	       "  --name NAME, --run-dir DIR  which daemon\n\n"
	       "Filters, all of which must match:\n"
	       "  --verdict WORD     allowed or denied\n"
	       "  --denied           the same as --verdict denied\n"
	       "  --type WORD        request or connection\n"
	       "  --from NS/NAME     source workload; NAME alone: in any namespace\n"
	       "  --to NS/NAME       destination workload\n"
	       "  --min-latency T    t_total of at least T: 500us, 10ms, 2s\n"
	       "  --path-prefix P    requests whose path begins with P\n\n"
	       "Exit status: 0 ok, 2 wrong usage, 3 the daemon does not answer.\n\n"
	       "Examples:\n"
	       "  shunt observe -f --denied\n"
	       "  shunt observe --last 100 --to shop/api --min-latency 10ms\n"
	       "  shunt observe -f -o jsonl | jq 'select(.status >= 500)'\n",
	       LAST_DEFAULT, KEPT);
}

/* --- records --- */

static const char *string_of(const cJSON *record, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(record, key);

	return cJSON_IsString(item) ? item->valuestring : NULL;
}

static double number_of(const cJSON *record, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(record, key);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static bool is_word(const cJSON *record, const char *key, const char *wanted)
{
	const char *have = string_of(record, key);

	return wanted == NULL || (have != NULL && strcmp(have, wanted) == 0);
}

static bool is_workload(const cJSON *record, const char *namespace_key, const char *workload_key,
			const char *wanted)
{
	const char *namespace = string_of(record, namespace_key);
	const char *workload = string_of(record, workload_key);
	const char *slash;
	size_t len;

	if (wanted == NULL)
		return true;
	if (workload == NULL)
		return false;
	slash = strchr(wanted, '/');
	if (slash == NULL)
		return strcmp(workload, wanted) == 0;
	len = (size_t)(slash - wanted);
	return namespace != NULL && strlen(namespace) == len &&
	       strncmp(namespace, wanted, len) == 0 && strcmp(workload, slash + 1) == 0;
}

static bool matches(const struct filter *f, const cJSON *record)
{
	const char *path = string_of(record, "path");

	if (f->path_prefix != NULL &&
	    (path == NULL || strncmp(path, f->path_prefix, strlen(f->path_prefix)) != 0))
		return false;
	return is_word(record, "verdict", f->verdict) && is_word(record, "type", f->type) &&
	       is_workload(record, "src.namespace", "src.workload", f->from) &&
	       is_workload(record, "dst.namespace", "dst.workload", f->to) &&
	       number_of(record, "t_total") >= f->min_latency;
}

static bool filters(const struct filter *f)
{
	return f->verdict != NULL || f->type != NULL || f->from != NULL || f->to != NULL ||
	       f->path_prefix != NULL || f->min_latency > 0;
}

/* --- cells; each is the caller's to free() --- */

__attribute__((format(printf, 1, 2))) static char *print(const char *format, ...)
{
	va_list args;
	char *out;
	int n;

	va_start(args, format);
	n = vasprintf(&out, format, args);
	va_end(args);
	if (n < 0) {
		fprintf(stderr, "shunt: out of memory\n");
		exit(CLI_UNREACHABLE);
	}
	return out;
}

static char *print_time(double ns)
{
	if (ns < 1e3)
		return print("%.0fns", ns);
	if (ns < 1e6)
		return print("%.0fus", ns / 1e3);
	if (ns < 1e9)
		return print("%.1fms", ns / 1e6);
	return print("%.2fs", ns / 1e9);
}

static char *print_bytes(double n)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	size_t unit = 0;

	for (; n >= 1000 && unit + 1 < sizeof units / sizeof units[0]; unit++)
		n /= 1000;
	return print(unit > 0 && n < 10 ? "%.1f %s" : "%.0f %s", n, units[unit]);
}

/* "2026-10-05T10:15:02.114203117Z" -> "10:15:02.114" */
static char *cell_time(const cJSON *record)
{
	const char *t = string_of(record, "start_time");

	return t != NULL && strlen(t) > 23 ? print("%.12s", t + 11) : print("-");
}

/* The workload, else the address; with the port of a destination. */
static char *cell_end(const cJSON *record, const char *namespace_key, const char *workload_key,
		      const char *address_key, bool port)
{
	const char *namespace = string_of(record, namespace_key);
	const char *workload = string_of(record, workload_key);
	const char *address = string_of(record, address_key);
	const char *colon = address != NULL ? strrchr(address, ':') : NULL;

	if (workload != NULL)
		return print("%s%s%s%s", namespace != NULL ? namespace : "",
			     namespace != NULL ? "/" : "", workload,
			     port && colon != NULL ? colon : "");
	if (address == NULL)
		return print("-");
	if (port || colon == NULL)
		return print("%s", address);
	return print("%.*s", (int)(colon - address), address);
}

static char *cell_summary(const cJSON *record)
{
	const char *method = string_of(record, "method"), *path = string_of(record, "path");
	const char *error = string_of(record, "errno");
	double status = number_of(record, "status");
	char *sent, *received, *out;

	if (is_word(record, "type", "request")) {
		char *short_path = cli_safe(path != NULL ? path : "", 60);

		out = status > 0 ? print("%s %s %.0f", method != NULL ? method : "-", short_path,
					 status)
				 : print("%s %s -", method != NULL ? method : "-", short_path);
		free(short_path);
		return out;
	}
	if (error != NULL)
		return print("connect: %s", error);
	sent = print_bytes(number_of(record, "bytes_sent"));
	received = print_bytes(number_of(record, "bytes_recv"));
	out = print("%s out, %s in", sent, received);
	free(sent);
	free(received);
	return out;
}

/* Who said so: policy and rule; and why, where there is a reason. */
static char *cell_by(const cJSON *record)
{
	const char *policy = string_of(record, "policy"), *rule = string_of(record, "rule");
	const char *reason = string_of(record, "reason");

	if (policy == NULL && reason == NULL)
		return print("-");
	return print("%s%s%s%s%s%s", policy != NULL ? policy : "",
		     policy != NULL && rule != NULL ? " " : "", rule != NULL ? rule : "",
		     policy != NULL && reason != NULL ? " (" : "", reason != NULL ? reason : "",
		     policy != NULL && reason != NULL ? ")" : "");
}

static const char *const clocks[CLOCK_COUNT] = {
#define X(name, key) key,
	CLOCKS(X)
#undef X
};

/* The largest clock but `except`; NULL when all are zero. */
static const char *largest_clock(const cJSON *record, const char *except)
{
	const char *largest = NULL;
	double most = 0;

	for (size_t i = 0; i < CLOCK_COUNT; i++) {
		double ns = number_of(record, clocks[i]);

		if (ns > most && clocks[i] != except) {
			most = ns;
			largest = clocks[i];
		}
	}
	return largest;
}

/* Where the time went: the two largest clocks. */
static char *cell_where(const cJSON *record)
{
	const char *first = largest_clock(record, NULL);
	const char *second = largest_clock(record, first);
	char *first_time, *second_time, *out;

	if (first == NULL)
		return print("-");
	first_time = print_time(number_of(record, first));
	if (second == NULL) {
		out = print("%s %s", first + 2, first_time);
		free(first_time);
		return out;
	}
	second_time = print_time(number_of(record, second));
	out = print("%s %s, %s %s", first + 2, first_time, second + 2, second_time);
	free(first_time);
	free(second_time);
	return out;
}

static char *cell(const cJSON *record, enum column column)
{
	const char *word;

	switch (column) {
	case COLUMN_TIME:
		return cell_time(record);
	case COLUMN_SOURCE:
		return cell_end(record, "src.namespace", "src.workload", "src.addr", false);
	case COLUMN_DESTINATION:
		return cell_end(record, "dst.namespace", "dst.workload", "dst.addr", true);
	case COLUMN_PROTOCOL:
		word = string_of(record, "protocol");
		return print("%s", word != NULL ? word : "-");
	case COLUMN_SUMMARY:
		return cell_summary(record);
	case COLUMN_VERDICT:
		word = string_of(record, "verdict");
		return print("%s", word != NULL ? word : "-");
	case COLUMN_BY:
		return cell_by(record);
	case COLUMN_TOTAL:
		return print_time(number_of(record, "t_total"));
	case COLUMN_WHERE:
		return cell_where(record);
	case COLUMNS:
		break;
	}
	return print("-");
}

/* --- columns --- */

struct row {
	char *cells[COLUMNS];
	bool denied;
};

static void row_make(struct observe *o, const cJSON *record, struct row *row)
{
	row->denied = is_word(record, "verdict", "denied");
	for (size_t i = 0; i < COLUMNS; i++) {
		char *raw = cell(record, (enum column)i);
		size_t width;

		row->cells[i] = cli_safe(raw, 100);
		free(raw);
		width = cli_width(row->cells[i]);
		o->width[i] = width > o->width[i] ? width : o->width[i];
	}
}

static void header_print(struct observe *o)
{
	static const char *const names[COLUMNS] = {
		"TIME (UTC)", "SOURCE", "DESTINATION",	       "PROTOCOL", "SUMMARY", "VERDICT",
		"BY",	      "TOTAL",	"WHERE THE TIME WENT",
	};

	if (o->header_printed)
		return;
	o->header_printed = true;
	for (size_t i = 0; i < COLUMNS; i++) {
		size_t width = cli_width(names[i]);

		o->width[i] = width > o->width[i] ? width : o->width[i];
		cli_cell(stdout, names[i], o->width[i], i + 1 == COLUMNS);
	}
	putchar('\n');
}

static void row_print(const struct observe *o, struct row *row)
{
	for (size_t i = 0; i < COLUMNS; i++) {
		if (i == COLUMN_VERDICT)
			fputs(cli_colour(row->denied ? CLI_RED : CLI_GREEN), stdout);
		cli_cell(stdout, row->cells[i], o->width[i], i + 1 == COLUMNS);
		if (i == COLUMN_VERDICT)
			fputs(cli_colour(CLI_PLAIN), stdout);
		free(row->cells[i]);
	}
	putchar('\n');
}

/* --- lines as they come --- */

static void say_lost(const cJSON *record)
{
	fprintf(stderr, "shunt: %.0f records passed too fast to be shown\n",
		number_of(record, "drop_count"));
}

static void show(struct observe *o, const cJSON *record, const char *line)
{
	struct row row;

	if (o->format == FORMAT_COLUMNS) {
		row_make(o, record, &row);
		header_print(o);
		row_print(o, &row);
	} else {
		puts(line);
	}
}

static void keep(struct observe *o, const char *line)
{
	char **place;

	if (o->last == 0)
		return;
	place = &o->kept[o->matched++ % o->last];
	free(*place);
	*place = cli_alloc(strlen(line) + 1);
	strcpy(*place, line);
}

static bool take_line(void *arg, const char *line)
{
	struct observe *o = arg;
	cJSON *record = cJSON_Parse(line);

	if (!cJSON_IsObject(record)) {
		cJSON_Delete(record);
		return true;
	}
	if (is_word(record, "type", "lost"))
		say_lost(record);
	else if (!matches(&o->filter, record))
		;
	else if (o->follow)
		show(o, record, line);
	else
		keep(o, line);
	cJSON_Delete(record);
	/* a reader that went away has ended us by SIGPIPE; a full disk has not */
	return !o->follow || fflush(stdout) == 0;
}

static void show_kept(struct observe *o)
{
	size_t n = o->matched < o->last ? o->matched : o->last;
	struct row *rows = cli_alloc((n + 1) * sizeof *rows);

	if (o->format == FORMAT_JSON)
		putchar('[');
	for (size_t i = 0; i < n; i++) {
		char *line = o->kept[(o->matched - n + i) % o->last];
		cJSON *record;

		if (o->format != FORMAT_COLUMNS) {
			printf("%s%s%s", line, o->format == FORMAT_JSON && i + 1 < n ? "," : "",
			       o->format == FORMAT_JSON && i + 1 == n ? "" : "\n");
			continue;
		}
		record = cJSON_Parse(line); /* as it did before */
		row_make(o, record, &rows[i]);
		cJSON_Delete(record);
	}
	if (o->format == FORMAT_JSON)
		printf("]\n");
	if (o->format == FORMAT_COLUMNS && n > 0)
		header_print(o);
	for (size_t i = 0; o->format == FORMAT_COLUMNS && i < n; i++)
		row_print(o, &rows[i]);
	free(rows);
}

/* --- options --- */

/* "10ms" in ns; negative when it is none. */
static double parse_duration(const char *text)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}};
	char *end;
	double n = strtod(text, &end);

	if (end == text || !isfinite(n) || n < 0)
		return -1;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (strcmp(end, units[i].unit) == 0)
			return n * units[i].ns;
	return -1;
}

static bool parse_word(const char **to, const char *word, const char *one, const char *other)
{
	*to = word;
	if (strcmp(word, one) == 0 || strcmp(word, other) == 0)
		return true;
	fprintf(stderr, "shunt observe: '%s' is neither %s nor %s\n", word, one, other);
	return false;
}

static bool parse_format(struct observe *o, const char *word)
{
	if (strcmp(word, "columns") == 0)
		o->format = FORMAT_COLUMNS;
	else if (strcmp(word, "jsonl") == 0)
		o->format = FORMAT_JSONL;
	else if (strcmp(word, "json") == 0)
		o->format = FORMAT_JSON;
	else
		fprintf(stderr, "shunt observe: '%s' is no format: columns, jsonl, json\n", word);
	return strcmp(word, "columns") == 0 || o->format != FORMAT_COLUMNS;
}

static bool parse_last(struct observe *o, const char *word)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);

	o->last = n < KEPT ? (unsigned)n : KEPT;
	if (*word >= '0' && *word <= '9' && *end == '\0')
		return true;
	fprintf(stderr, "shunt observe: '%s' is no number of records\n", word);
	return false;
}

static bool parse_latency(struct observe *o, const char *word)
{
	o->filter.min_latency = parse_duration(word);
	if (o->filter.min_latency >= 0)
		return true;
	fprintf(stderr, "shunt observe: '%s' is no duration: 500us, 10ms, 2s\n", word);
	return false;
}

enum {
	OPTION_LAST = 1,
	OPTION_VERDICT,
	OPTION_DENIED,
	OPTION_TYPE,
	OPTION_FROM,
	OPTION_TO,
	OPTION_LATENCY,
	OPTION_PATH,
};

static bool take_option(struct observe *o, int option)
{
	switch (option) {
	case 'f':
		o->follow = true;
		return true;
	case 'o':
		return parse_format(o, optarg);
	case OPTION_LAST:
		return parse_last(o, optarg);
	case OPTION_VERDICT:
		return parse_word(&o->filter.verdict, optarg, "allowed", "denied");
	case OPTION_DENIED:
		o->filter.verdict = "denied";
		return true;
	case OPTION_TYPE:
		return parse_word(&o->filter.type, optarg, "request", "connection");
	case OPTION_FROM:
		o->filter.from = optarg;
		return true;
	case OPTION_TO:
		o->filter.to = optarg;
		return true;
	case OPTION_LATENCY:
		return parse_latency(o, optarg);
	case OPTION_PATH:
		o->filter.path_prefix = optarg;
		return true;
	default:
		return false;
	}
}

static int observe(struct observe *o)
{
	char target[64];
	unsigned status = 0;
	int err;

	/* Without -f the last N of those that match: the daemon does not know the filters. */
	snprintf(target, sizeof target, "/observe?last=%u&follow=%d",
		 !o->follow && filters(&o->filter) ? KEPT : o->last, o->follow);
	o->kept = cli_alloc((o->last + 1) * sizeof *o->kept);
	memset(o->kept, 0, (o->last + 1) * sizeof *o->kept);
	err = client_lines(target, o->follow ? 0 : 10, take_line, o, &status);
	if (err == 0 && status == 200 && !o->follow)
		show_kept(o);
	for (unsigned i = 0; i < o->last; i++)
		free(o->kept[i]);
	free(o->kept);
	if (err < 0)
		return client_complain(err);
	if (status != 200) {
		fprintf(stderr, "shunt: shuntd at %s answered %u\n", cli_socket(), status);
		return CLI_UNREACHABLE;
	}
	if (!o->follow)
		return CLI_OK;
	if (ferror(stdout))
		return CLI_OK; /* main() says so */
	fprintf(stderr, "shunt: the daemon ended the stream\n");
	return CLI_UNREACHABLE;
}

int cli_observe(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{"follow", no_argument, NULL, 'f'},
		{"output", required_argument, NULL, 'o'},
		{"last", required_argument, NULL, OPTION_LAST},
		{"verdict", required_argument, NULL, OPTION_VERDICT},
		{"denied", no_argument, NULL, OPTION_DENIED},
		{"type", required_argument, NULL, OPTION_TYPE},
		{"from", required_argument, NULL, OPTION_FROM},
		{"to", required_argument, NULL, OPTION_TO},
		{"min-latency", required_argument, NULL, OPTION_LATENCY},
		{"path-prefix", required_argument, NULL, OPTION_PATH},
		{NULL, 0, NULL, 0},
	};
	struct observe o = {.last = LAST_DEFAULT};
	int option;

	while ((option = getopt_long(argc, argv, "hfo:", options, NULL)) != -1) {
		if (option == 'h') {
			print_help();
			return CLI_OK;
		}
		if (!cli_common(option) && !take_option(&o, option))
			return cli_usage(argv[0]);
	}
	if (optind < argc)
		return cli_usage(argv[0]);
	if (o.follow && o.format == FORMAT_JSON) {
		fprintf(stderr, "shunt observe: an array has an end, -f has none: use -o jsonl\n");
		return cli_usage(argv[0]);
	}
	return observe(&o);
}
